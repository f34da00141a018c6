"""DeepForm: five fields of disclosure forms of political advertising, by the DUE benchmark's micro F1."""
