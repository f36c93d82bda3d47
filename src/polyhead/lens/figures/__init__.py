"""Figures for papers, slides and saved notebooks: a recording becomes PNG, SVG or TSV."""
