"""Pages of text, tables and charts: how they are read or drawn, and the tasks that are made of them."""
