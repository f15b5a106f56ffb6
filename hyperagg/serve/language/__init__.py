"""Language models behind the server: generation, kept states and the routes of OpenAI's API."""
