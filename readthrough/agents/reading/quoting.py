"""Quoting: the sentences of some passages that are asked for.

Each sentence is judged by four signs, each on the scale of these sentences and counting the same: how likely it
makes the question, whether the model says that it answers, how near its vector is to the question's, and (clauses
that people ask for are seldom short) its length. docs/log.md has what each of them is worth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from readthrough.agents.reading.confidence import log_odds
from readthrough.agents.reading.passages import as_data, unwrap
from readthrough.agents.reading.pointers import Sentence, sentences
from readthrough.agents.reading.queries import quoted_phrases, without_instruction
from readthrough.agents.runs.services import Services
from readthrough.models.base import Request
from readthrough.retrieval.embedding import embed_queries, embed_texts
from readthrough.retrieval.rerankers.likelihood import QUESTION_ABOUT
from readthrough.types import Chunk

ANSWERS = """{text}

{question}
Does the text above answer this? Answer Yes or No."""


def best_sentences(
    services: Services, question: str, passages: Sequence[Chunk], most: int, vectors: bool = True
) -> tuple[list[Sentence], float]:
    """The `most` sentences that fit `question` best in reading order, and the best one's probability.

    The probability is Bayes' rule over these sentences, each as likely as the others before the question is known.
    Needs a model with logits; without `vectors` no embedder is needed.
    """
    among = sentences(passages)
    if not among:
        return [], 0.0
    documents = {chunk.document: services.shelf.document(chunk.document).text for chunk in passages}
    texts = [as_data(unwrap(documents[sentence.document][sentence.start : sentence.end])) for sentence in among]
    asked = without_instruction(question)
    about = [Request.user(QUESTION_ABOUT.format(text=text)) for text in texts]
    likely = services.likelihood(about, [asked] * len(texts))
    named = ": ".join([*quoted_phrases(question), asked])
    checks = [Request.user(ANSWERS.format(text=text, question=named)) for text in texts]
    yes = [choice.probabilities[0] for choice in services.choose(checks, [["Yes", "No"]] * len(texts))]
    signs = [
        [score.mean for score in likely],
        [log_odds(share) for share in yes],
        [math.log(len(text.split()) or 1) for text in texts],
    ]
    if vectors:
        embedder = services.shelf.embedder
        signs.append((embed_texts(embedder, texts) @ embed_queries(embedder, [asked])[0]).tolist())
    scores = sum(_standard(sign) for sign in signs)
    ranked = np.argsort(-np.asarray(scores), kind="stable").tolist()
    best = likely[ranked[0]].logprob
    probability = 1 / sum(math.exp(min(score.logprob - best, 700.0)) for score in likely)
    return [among[at] for at in sorted(ranked[:most])], round(probability, 4)


def _standard(values: Sequence[float]) -> np.ndarray:
    """Values with mean 0 and deviation 1; all 0 where they are the same."""
    array = np.array(values)
    spread = float(array.std())
    result: np.ndarray = (array - array.mean()) / spread if spread > 1e-9 else array * 0.0
    return result
