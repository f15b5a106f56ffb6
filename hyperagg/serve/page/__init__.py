"""The page of a server, and a classifier as one HTML file.

The page is plain HTML, CSS and JavaScript, without a build step and without anything from
elsewhere. Only `routes` needs FastAPI.
"""
