"""Kommo: its words, its limits and its errors, translated into ours and back."""
