"""The gate: can a change be told from noise here?"""
