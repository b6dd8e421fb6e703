"""Joins: what is computed anew where texts that were read apart stand in one prompt. One file a method."""
