"""Nets timed on this machine, and the profile that follows."""
