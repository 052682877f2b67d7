"""The sliding window over a case, in bounded memory."""
