"""Data, storage, tables, and the Ray graphs that connect them."""
