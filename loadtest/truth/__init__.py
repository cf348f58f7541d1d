"""Servers whose behaviour is known exactly, and what a perfect instrument would report of them."""
