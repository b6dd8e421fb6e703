"""Positions for texts that are longer than those a model was trained with. One file a method."""
