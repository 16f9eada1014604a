"""Speech and language providers, one module each. Import the one you want; none is imported from here."""
