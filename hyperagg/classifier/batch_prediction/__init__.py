"""Predict the labels of files of any size: read, score and write in bounded memory."""
