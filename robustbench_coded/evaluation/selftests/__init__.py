"""Tests of what an evaluation rests on: can this defence's answers and gradients be attacked at all?"""
