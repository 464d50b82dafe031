"""Tests of what runs record, and of audits. Imports training."""
