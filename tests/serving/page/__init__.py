"""The page to try served models with."""
