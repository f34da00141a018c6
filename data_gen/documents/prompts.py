"""The sentences that ask for a page's text, data, places and order. One of each list is drawn for every question.

Written for this project; what they ask for is the unified structure learning of mPLUG-DocOwl 1.5 (arXiv 2403.12895) and
DocOwl2 (arXiv 2409.03420).
"""

from __future__ import annotations

READ_TEXT = (
    "Read the text on this page.",
    "Write down everything that is written on this page, keeping its lines.",
    "What does this page say? Give all of its text in order.",
    "Transcribe this page from top to bottom.",
    "Turn the picture of this page into text that keeps its layout.",
    "Copy out the text of this document.",
    "Please extract all the text that you can see on the page.",
    "Type out this page line by line.",
)
TABLE_TO_MARKDOWN = (
    "Convert this table to Markdown.",
    "Write the table in the picture as Markdown.",
    "Give the content of this table in Markdown, merged cells included.",
    "Rebuild this table as a Markdown table.",
    "Read the table and put it down in Markdown.",
    "What does the table hold? Answer with a Markdown table.",
    "Transcribe this table into Markdown, row by row.",
    "Please turn the table shown here into Markdown format.",
)
CHART_TO_MARKDOWN = (
    "Convert this chart to a Markdown table.",
    "Which data does the chart show? Answer with a Markdown table.",
    "Read the values off this chart and list them in Markdown.",
    "Write the numbers behind this figure as a table in Markdown.",
    "Turn the chart into the table it was drawn from, in Markdown.",
    "Recover the data of this plot as a Markdown table.",
    "Please put the data of this figure into a Markdown table.",
    "Tabulate what this chart shows, using Markdown.",
)
READ_PHOTO = (
    "Which text can be read in this picture?",
    "Read the text in this photo.",
    "Write down the words that appear in the picture.",
    "What is written in this image?",
    "List all the text that is visible here.",
    "Transcribe the lettering in this photo.",
)
DESCRIBE_PHOTO = (
    "Describe the picture and give the text in it.",
    "What does this photo show, and what is written in it?",
    "Say what can be seen here, then read out the text.",
    "Describe this image in a sentence and transcribe the words in it.",
    "Give a short description of the photo, followed by its text.",
    "What is in the picture? Include the text that it contains.",
)
CONTINUE_TEXT = (
    "The text of this page begins as given here. Write the rest of it: {start}",
    "Go on reading this page from where this stops: {start}",
    "Continue the transcript of the page: {start}",
    "Here is the beginning of the page. What comes after it? {start}",
    "Complete the text of the page, which starts like this: {start}",
    "Somebody has typed the first lines of this page. Type the others: {start}",
)
LOCATE_TEXT = (
    "Where on the page is this text? {text}",
    "Give the bounding box of the text {text}",
    "Find {text} and answer with its box.",
    "Locate the following text in the picture: {text}",
    "In which box does {text} stand?",
    "Mark the position of the text {text}",
    "Which region of the image holds {text}?",
    "Return the coordinates of the text {text}",
)
RECOGNISE_TEXT = (
    "What is written in {box}?",
    "Read the text inside {box}.",
    "Give the text in the region {box}.",
    "Which words stand in {box}?",
    "Transcribe what the box {box} holds.",
    "Read out the part of the image at {box}.",
    "Recognise the text within {box}.",
    "Which text does the region {box} contain?",
)
READ_PAGES = (
    "Read the text of {pages}.",
    "Write down what is written on {pages}.",
    "Transcribe {pages} of this document.",
    "Give the text of {pages}, and of no other page.",
    "What do you read on {pages}?",
    "Copy out {pages} from top to bottom.",
)
FIND_PAGES = (
    "Which of the pages hold the following text? {texts}",
    "On which page does each of these texts stand? {texts}",
    "Find the pages that these texts were taken from: {texts}",
    "Look up where this is written, and answer with the page: {texts}",
    "Tell the page of every text given here: {texts}",
    "These texts come from the document shown. From which of its pages? {texts}",
)
ALL = (
    *(READ_TEXT, TABLE_TO_MARKDOWN, CHART_TO_MARKDOWN, READ_PHOTO, DESCRIBE_PHOTO, CONTINUE_TEXT),
    *(LOCATE_TEXT, RECOGNISE_TEXT, READ_PAGES, FIND_PAGES),
)
