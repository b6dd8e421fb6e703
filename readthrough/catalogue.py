"""The one static table of built-in parts: point -> name -> `module:Class`, imported only when used.

Adding a part is one file and one line here. Other packages add theirs by entry points in the group
`readthrough.<point>`. A duplicate name or a plug-in that does not load is an error that names it.
"""

from __future__ import annotations

import difflib
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from readthrough.errors import ConfigError, UnknownNameError

PARTS: dict[str, dict[str, str]] = {
    "loaders": {
        "text": "readthrough.documents.loaders.text:TextLoader",
        "markdown": "readthrough.documents.loaders.markdown:MarkdownLoader",
        "html": "readthrough.documents.loaders.html:HtmlLoader",
        "pdf": "readthrough.documents.loaders.pdf:PdfLoader",
        "epub": "readthrough.documents.loaders.epub:EpubLoader",
        "docx": "readthrough.documents.loaders.docx:DocxLoader",
        "pptx": "readthrough.documents.loaders.pptx:PptxLoader",
        "xlsx": "readthrough.documents.loaders.xlsx:XlsxLoader",
        "csv": "readthrough.documents.loaders.csv:CsvLoader",
        "eml": "readthrough.documents.loaders.eml:EmlLoader",
        "ipynb": "readthrough.documents.loaders.ipynb:NotebookLoader",
        "code": "readthrough.documents.loaders.code:CodeLoader",
    },
    "chunkers": {
        "tokens": "readthrough.documents.chunkers.tokens:TokenChunker",
        "code": "readthrough.documents.chunkers.code:CodeChunker",
    },
    "embedders": {
        "all-minilm-l6-v2": "readthrough.retrieval.embedders.minilm:MiniLMEmbedder",
        "sentence-transformers": "readthrough.retrieval.embedders.sentence:SentenceTransformerEmbedder",
        "late-interaction": "readthrough.retrieval.embedders.late_interaction:LateInteractionEmbedder",
        "openai": "readthrough.retrieval.embedders.endpoint:EndpointEmbedder",
    },
    "indexes": {
        "bm25": "readthrough.retrieval.indexes.bm25:BM25Index",
        "vectors": "readthrough.retrieval.indexes.vectors:VectorIndex",
        "hybrid": "readthrough.retrieval.indexes.hybrid:HybridIndex",
        "bm25-feedback": "readthrough.retrieval.indexes.feedback:FeedbackIndex",
        "hops": "readthrough.retrieval.indexes.hops:HopsIndex",
        "entity-graph": "readthrough.retrieval.indexes.entity_graph:EntityGraphIndex",
        "hybrid-weighted": "readthrough.retrieval.indexes.hybrid:WeightedHybridIndex",
        "late-interaction": "readthrough.retrieval.indexes.late_interaction:LateInteractionIndex",
    },
    "rerankers": {
        "likelihood": "readthrough.retrieval.rerankers.likelihood:LikelihoodReranker",
        "pointwise": "readthrough.retrieval.rerankers.choices:PointwiseReranker",
        "listwise": "readthrough.retrieval.rerankers.choices:ListwiseReranker",
        "attention": "readthrough.retrieval.rerankers.attention:AttentionReranker",
        "cross-encoder": "readthrough.retrieval.rerankers.cross_encoder:CrossEncoderReranker",
    },
    "stores": {
        "pgvector": "readthrough.retrieval.stores.pgvector:Pgvector",
        "qdrant": "readthrough.retrieval.stores.qdrant:Qdrant",
    },
    "models": {
        "local": "readthrough.models.local.backend:LocalModel",
        "openai": "readthrough.models.openai:OpenAIModel",
        "langchain": "readthrough.models.langchain:LangChainModel",
        "scripted": "readthrough.models.scripted:ScriptedModel",
    },
    "patterns": {
        "sink-window": "readthrough.compression.patterns.sink_window:SinkWindow",
        "vertical-slash": "readthrough.compression.patterns.vertical_slash:VerticalSlash",
        "block-topk": "readthrough.compression.patterns.block_topk:BlockTopK",
        "antidiagonal": "readthrough.compression.patterns.antidiagonal:Antidiagonal",
        "flexprefill": "readthrough.compression.patterns.flexprefill:FlexPrefill",
        "critiprefill": "readthrough.compression.patterns.critiprefill:CritiPrefill",
        "power-attention": "readthrough.compression.patterns.power_attention:PowerAttention",
        "sale": "readthrough.compression.patterns.sale:SALE",
        "hip": "readthrough.compression.patterns.hip:HiP",
        "hyper-attention": "readthrough.compression.patterns.hyper_attention:HyperAttention",
        "random": "readthrough.compression.patterns.random_blocks:RandomBlocks",
    },
    "policies": {
        "sink-window": "readthrough.compression.policies.sink_window:SinkWindow",
        "snapkv": "readthrough.compression.policies.snapkv:SnapKV",
        "kvzip": "readthrough.compression.policies.kvzip:KVzip",
        "pyramidkv": "readthrough.compression.policies.pyramidkv:PyramidKV",
        "h2o": "readthrough.compression.policies.h2o:H2O",
        "sage-kv": "readthrough.compression.policies.sage_kv:SageKV",
        "cake": "readthrough.compression.policies.cake:CAKE",
        "dynamickv": "readthrough.compression.policies.dynamickv:DynamicKV",
        "keydiff": "readthrough.compression.policies.keydiff:KeyDiff",
        "pagedeviction": "readthrough.compression.policies.pagedeviction:PagedEviction",
        "lacache": "readthrough.compression.policies.lacache:LaCache",
        "shotkv": "readthrough.compression.policies.shotkv:ShotKV",
        "evolkv": "readthrough.compression.policies.evolkv:EvolKV",
        "kvmerger": "readthrough.compression.policies.kvmerger:KVMerger",
        "random": "readthrough.compression.policies.random:Random",
        "lighttransfer": "readthrough.compression.policies.lighttransfer:LightTransfer",
        "duo-attention": "readthrough.compression.policies.duo_attention:DuoAttention",
    },
    "selectors": {
        "page-bound": "readthrough.compression.selectors.page_bound:PageBound",
        "tokenselect": "readthrough.compression.selectors.token_votes:TokenSelect",
        "recycled-attention": "readthrough.compression.selectors.recycled:RecycledAttention",
        "delta": "readthrough.compression.selectors.delta:Delta",
        "retrieval-attention": "readthrough.compression.selectors.retrieved:RetrievalAttention",
        "infllm": "readthrough.compression.selectors.block_memory:InfLLM",
        "random": "readthrough.compression.selectors.random_pages:RandomPages",
    },
    "positions": {
        "linear": "readthrough.compression.positions.scaled:Linear",
        "ntk": "readthrough.compression.positions.scaled:NTK",
        "yarn": "readthrough.compression.positions.scaled:Yarn",
        "dual-chunk": "readthrough.compression.positions.dual_chunk:DualChunk",
        "self-extend": "readthrough.compression.positions.self_extend:SelfExtend",
        "lm-infinite": "readthrough.compression.positions.lm_infinite:LMInfinite",
        "reattention": "readthrough.compression.positions.reattention:ReAttention",
    },
    "prompt-compressors": {
        "longllmlingua": "readthrough.compression.prompt.longllmlingua:LongLLMLingua",
        "gemfilter": "readthrough.compression.prompt.gemfilter:GemFilter",
        "ehpc": "readthrough.compression.prompt.ehpc:EHPC",
        "specpc": "readthrough.compression.prompt.specpc:SpecPC",
        "longcodezip": "readthrough.compression.prompt.longcodezip:LongCodeZip",
    },
    "joins": {
        "blend": "readthrough.compression.joins.blend:Blend",
    },
    "workflows": {
        "retrieve": "readthrough.agents.workflows.retrieve:Retrieve",
        "route": "readthrough.agents.workflows.route:Route",
        "memory-agent": "readthrough.agents.workflows.memory_agent:MemoryAgent",
        "chain-of-agents": "readthrough.agents.workflows.chain_of_agents:ChainOfAgents",
        "map-reduce": "readthrough.agents.workflows.map_reduce:MapReduce",
        "graph-reader": "readthrough.agents.workflows.graph_reader:GraphReader",
        "retrieve-then-reason": "readthrough.agents.workflows.retrieve_then_reason:RetrieveThenReason",
        "tree-walk": "readthrough.agents.workflows.tree_walk:TreeWalk",
        "gist-lookup": "readthrough.agents.workflows.gist_lookup:GistLookup",
        "episodes": "readthrough.agents.workflows.episodes:Episodes",
        "probe-and-consolidate": "readthrough.agents.workflows.probe_and_consolidate:ProbeAndConsolidate",
        "clarify": "readthrough.agents.workflows.clarify:Clarify",
        "self-shots": "readthrough.agents.workflows.self_shots:SelfShots",
        "sculptor": "readthrough.agents.workflows.sculptor:Sculptor",
        "recursive": "readthrough.agents.workflows.recursive:Recursive",
        "verify-claim": "readthrough.agents.workflows.verify_claim:VerifyClaim",
        "iterative-summary": "readthrough.agents.workflows.iterative_summary:IterativeSummary",
        "write-long": "readthrough.agents.workflows.write_long:WriteLong",
        "extract": "readthrough.agents.workflows.extract:Extract",
        "full-context": "readthrough.agents.workflows.full_context:FullContext",
    },
    "nodes": {
        "retrieve": "readthrough.agents.nodes.retrieve:RetrieveNode",
        "scan": "readthrough.agents.nodes.scan:ScanNode",
        "weigh": "readthrough.agents.nodes.weigh:WeighNode",
        "gate": "readthrough.agents.nodes.gate:GateNode",
        "reader": "readthrough.agents.nodes.reader:ReaderNode",
        "enough": "readthrough.agents.nodes.enough:EnoughNode",
        "queries": "readthrough.agents.nodes.queries:QueriesNode",
        "router": "readthrough.agents.nodes.router:RouterNode",
        "manager": "readthrough.agents.nodes.manager:ManagerNode",
    },
    "tasks": {
        "niah-single": "readthrough.evaluation.tasks.made.needles:NiahSingle",
        "niah-multikey": "readthrough.evaluation.tasks.made.needles:NiahMultikey",
        "niah-multivalue": "readthrough.evaluation.tasks.made.needles:NiahMultivalue",
        "niah-multiquery": "readthrough.evaluation.tasks.made.needles:NiahMultiquery",
        "niah-absent": "readthrough.evaluation.tasks.made.needles:NiahAbsent",
        "variable-tracking": "readthrough.evaluation.tasks.made.tracking:VariableTracking",
        "common-words": "readthrough.evaluation.tasks.made.words:CommonWords",
        "frequent-words": "readthrough.evaluation.tasks.made.words:FrequentWords",
        "qa-distractors": "readthrough.evaluation.tasks.made.distractors:QaDistractors",
        "ruler": "readthrough.evaluation.tasks.made.ruler:Ruler",
        "needle-depth": "readthrough.evaluation.tasks.made.needlebench:NeedleDepth",
        "ancestral-trace": "readthrough.evaluation.tasks.made.needlebench:AncestralTrace",
        "needle-threading": "readthrough.evaluation.tasks.made.threads:NeedleThreading",
        "keychain": "readthrough.evaluation.tasks.made.keychain:KeyChain",
        "oolong-count": "readthrough.evaluation.tasks.made.aggregation:OolongCount",
        "oolong-classes": "readthrough.evaluation.tasks.made.aggregation:OolongClasses",
        "oolong-time": "readthrough.evaluation.tasks.made.aggregation:OolongTime",
        "holo-tables": "readthrough.evaluation.tasks.made.tables:HoloTables",
        "joint-recall": "readthrough.evaluation.tasks.made.recall:JointRecall",
        "many-shot-induction": "readthrough.evaluation.tasks.made.induction:ManyShotInduction",
        "shared-context": "readthrough.evaluation.tasks.made.sharing:SharedContext",
        "required-events": "readthrough.evaluation.tasks.made.writing:RequiredEvents",
        "haystack-summary": "readthrough.evaluation.tasks.made.summaries:HaystackSummary",
        "questions": "readthrough.evaluation.tasks.files.questions:Questions",
        "longbench": "readthrough.evaluation.tasks.files.longbench:LongBench",
        "longbench-v2": "readthrough.evaluation.tasks.files.longbench:LongBenchV2",
        "infinitebench": "readthrough.evaluation.tasks.files.infinitebench:InfiniteBench",
        "musique": "readthrough.evaluation.tasks.files.multihop:Musique",
        "hotpotqa": "readthrough.evaluation.tasks.files.multihop:HotpotQA",
        "2wikimultihopqa": "readthrough.evaluation.tasks.files.multihop:TwoWikiMultihopQA",
        "quality": "readthrough.evaluation.tasks.files.quality:Quality",
        "loogle": "readthrough.evaluation.tasks.files.loogle:Loogle",
        "qmsum": "readthrough.evaluation.tasks.files.qmsum:QMSum",
        "babilong": "readthrough.evaluation.tasks.files.babilong:BabiLong",
        "nolima": "readthrough.evaluation.tasks.files.nolima:NoLiMa",
        "l-eval": "readthrough.evaluation.tasks.files.leval:LEval",
        "locomo": "readthrough.evaluation.tasks.files.locomo:LoCoMo",
        "narrativeqa": "readthrough.evaluation.tasks.files.narrativeqa:NarrativeQA",
        "summhay": "readthrough.evaluation.tasks.files.summhay:SummHay",
        "lv-eval": "readthrough.evaluation.tasks.files.lveval:LVEval",
        "helmet": "readthrough.evaluation.tasks.files.helmet:Helmet",
        "swe-qa": "readthrough.evaluation.tasks.files.code:SweQA",
        "longcodebench": "readthrough.evaluation.tasks.files.code:LongCodeBench",
        "locobench": "readthrough.evaluation.tasks.files.code:LoCoBench",
        "mrg-bench": "readthrough.evaluation.tasks.files.code:MRGBench",
        "ethic": "readthrough.evaluation.tasks.files.ethic:Ethic",
        "casesumm": "readthrough.evaluation.tasks.files.summaries:CaseSumm",
        "cnnsum": "readthrough.evaluation.tasks.files.summaries:CNNSum",
        "longsafety": "readthrough.evaluation.tasks.files.longsafety:LongSafety",
        "epbench": "readthrough.evaluation.tasks.files.epbench:EpBench",
        "bright": "readthrough.evaluation.tasks.files.retrieval:Bright",
        "loco": "readthrough.evaluation.tasks.files.retrieval:LoCo",
        "longembed": "readthrough.evaluation.tasks.files.retrieval:LongEmbed",
    },
    "metrics": {
        "f1": "readthrough.evaluation.metrics.answers:f1",
        "em": "readthrough.evaluation.metrics.answers:em",
        "contains": "readthrough.evaluation.metrics.answers:contains",
        "hotpot-f1": "readthrough.evaluation.metrics.answers:hotpot_f1",
        "f1-zh": "readthrough.evaluation.metrics.answers:f1_zh",
        "contains-all": "readthrough.evaluation.metrics.ruler:contains_all",
        "contains-any": "readthrough.evaluation.metrics.ruler:contains_any",
        "rouge-1": "readthrough.evaluation.metrics.rouge:rouge_1",
        "rouge-2": "readthrough.evaluation.metrics.rouge:rouge_2",
        "rouge-l": "readthrough.evaluation.metrics.rouge:rouge_l",
        "rouge-lsum": "readthrough.evaluation.metrics.rouge:rouge_lsum",
        "choice": "readthrough.evaluation.metrics.choices:choice",
        "longbench-qa-f1": "readthrough.evaluation.metrics.longbench:qa_f1",
        "longbench-qa-f1-zh": "readthrough.evaluation.metrics.longbench:qa_f1_zh",
        "longbench-classification": "readthrough.evaluation.metrics.longbench:classification",
        "longbench-retrieval": "readthrough.evaluation.metrics.longbench:retrieval",
        "longbench-count": "readthrough.evaluation.metrics.longbench:count",
        "longbench-code": "readthrough.evaluation.metrics.longbench:code",
        "longbench-rouge": "readthrough.evaluation.metrics.longbench:rouge",
        "longbench-rouge-zh": "readthrough.evaluation.metrics.longbench:rouge_zh",
        "number": "readthrough.evaluation.metrics.values:number",
        "date": "readthrough.evaluation.metrics.values:date",
        "first-number": "readthrough.evaluation.metrics.numbers:first_number",
        "last-number": "readthrough.evaluation.metrics.numbers:last_number",
        "number-prefix": "readthrough.evaluation.metrics.numbers:number_prefix",
        "babilong": "readthrough.evaluation.metrics.babilong:babilong",
        "list-f1": "readthrough.evaluation.metrics.lists:list_f1",
        "exact-order": "readthrough.evaluation.metrics.lists:exact_order",
        "keywords": "readthrough.evaluation.metrics.lists:keywords",
    },
}


def points() -> list[str]:
    """The names of the extension points."""
    return list(PARTS)


def nearest(name: str, names: list[str]) -> str | None:
    """The known name most like `name`, or None where nothing is near."""
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return found[0] if found else None


@cache  # looking through all installed packages takes 20 ms
def _plugins(point: str) -> dict[str, EntryPoint]:
    """The entry points of other packages; what is installed does not change while a process runs."""
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=f"readthrough.{point}"):
        if entry.name in PARTS[point] or entry.name in found:
            raise ConfigError(
                f"two parts named {entry.name!r} for {point}",
                hint=f"the plug-in {entry.value} must choose another name",
            )
        found[entry.name] = entry
    return found


def names(point: str) -> list[str]:
    """All names of `point`, built-in ones first.

    Raises:
        UnknownNameError: there is no such extension point.
        ConfigError: a plug-in takes a name that is taken.
    """
    if point not in PARTS:
        raise unknown("extension point", point, points())
    return [*PARTS[point], *_plugins(point)]


def find(point: str, name: str) -> Any:
    """Import and return the class of the part `name`.

    Raises:
        UnknownNameError: no such part; the message names the nearest.
        ConfigError: a plug-in that does not load.
    """
    known = names(point)
    if name in PARTS[point]:
        module, _, attribute = PARTS[point][name].partition(":")
        return getattr(import_module(module), attribute)
    plugin = _plugins(point).get(name)
    if plugin is None:
        raise unknown(singular(point), name, known)
    try:
        return plugin.load()
    except Exception as error:  # whatever a stranger's module raises, the user must learn whose it is
        raise ConfigError(f"the plug-in {name!r} ({plugin.value}) does not load: {error}") from error


def singular(point: str) -> str:
    """One part of an extension point, in words: `pattern`, `policy`."""
    return point.removesuffix("ies") + "y" if point.endswith("ies") else point.removesuffix("s")


def unknown(what: str, name: str, known: list[str]) -> UnknownNameError:
    """An error for a name that is not among `known`, with the nearest one as its hint."""
    close = nearest(name, known)
    hint = f"did you mean {close!r}?" if close else f"known: {', '.join(known)}"
    return UnknownNameError(f"unknown {what} {name!r}", hint=hint)
