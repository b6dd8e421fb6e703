"""`python -m readthrough`."""

from readthrough.cli.main import main

main()
