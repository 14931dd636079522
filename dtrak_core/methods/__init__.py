"""The attribution methods as settings of one pipeline, their scores, and what is read off these."""
