"""Whole experiments: the other stages run as processes, in order, with clean-up."""
