"""The sentences that ask for a page's text, data, places and order. One of each list is drawn for every question.

Written for this project; what they ask for is the unified structure learning of mPLUG-DocOwl 1.5 (arXiv 2403.12895) and
DocOwl2 (arXiv 2409.03420).
"""

from __future__ import annotations

READ_TEXT = (
    "Read the text on this page.",
    "Write down everything on this page, keeping its lines.",
    "What does this page say? Give all of its text in order.",
    "Transcribe this page from top to bottom.",
    "Turn this page into text that keeps its layout.",
    "Copy out the text of this document.",
    "Please extract all the text you can see on the page.",
    "Type out this page line by line.",
    "Give the full text of the document in the image.",
    "OCR this page and keep the line breaks.",
    "Can you read this document to me, line for line?",
    "I need the text of this page with its layout preserved.",
)
TABLE_TO_MARKDOWN = (
    "Convert this table to Markdown.",
    "Write the table in the image as Markdown.",
    "Give the content of this table in Markdown, merged cells included.",
    "Rebuild this table as a Markdown table.",
    "Read the table and write it out in Markdown.",
    "What does the table contain? Answer with a Markdown table.",
    "Transcribe this table into Markdown, row by row.",
    "Please turn the table shown here into Markdown.",
    "Extract the table from this image in Markdown format.",
    "Reproduce the rows and columns of this table in Markdown.",
    "I would like this table as Markdown.",
    "Parse the table into Markdown.",
)
CHART_TO_MARKDOWN = (
    "Convert this chart to a Markdown table.",
    "What data does the chart show? Answer with a Markdown table.",
    "Read the values off this chart and list them in Markdown.",
    "Write the numbers behind this figure as a table in Markdown.",
    "Turn the chart back into the table it was drawn from, in Markdown.",
    "Recover the data of this plot as a Markdown table.",
    "Please put the data of this figure into a Markdown table.",
    "Tabulate what this chart shows, using Markdown.",
    "Extract the data points of this chart in Markdown format.",
    "Which values are plotted here? Give them as a Markdown table.",
    "I need the data in this figure as a Markdown table.",
    "Parse the chart into a Markdown table.",
)
READ_PHOTO = (
    "What text can be read in this picture?",
    "Read the text in this photo.",
    "Write down the words that appear in the picture.",
    "What is written in this image?",
    "List all the text that is visible here.",
    "Transcribe the lettering in this photo.",
    "Which words can you make out in this picture?",
    "Extract the text from this photo.",
)
DESCRIBE_PHOTO = (
    "Describe the picture and give the text in it.",
    "What does this photo show, and what is written in it?",
    "Say what you can see here, then read out the text.",
    "Describe this image in a sentence and transcribe the words in it.",
    "Give a short description of the photo, followed by its text.",
    "What is in the picture? Include any text it contains.",
    "Caption this photo and read the text in it.",
    "Tell me what is shown here and what the writing says.",
)
CONTINUE_TEXT = (
    "The text of this page begins as follows. Write the rest of it: {start}",
    "Go on reading this page from where this stops: {start}",
    "Continue the transcript of the page: {start}",
    "Here is the beginning of the page. What comes after it? {start}",
    "Complete the text of the page, which starts like this: {start}",
    "Someone has typed the first lines of this page. Type the remaining ones: {start}",
    "Finish this transcription of the document: {start}",
    "Pick up where this partial transcript of the page ends: {start}",
)
LOCATE_TEXT = (
    "Where in the image is this text? {text}",
    "Give the bounding box of the text {text}",
    "Find {text} and answer with its box.",
    "Locate the following text in the image: {text}",
    "What are the coordinates of the box around {text}?",
    "Give the position of the text {text}",
    "Which region of the image contains {text}?",
    "Return the coordinates of the text {text}",
    "Draw a box around {text} and give its coordinates.",
    "Where does {text} appear?",
    "Point out {text} with a bounding box.",
    "Predict the bounding box of {text}",
)
RECOGNISE_TEXT = (
    "What is written in {box}?",
    "Read the text inside {box}.",
    "Give the text in the region {box}.",
    "What does it say in {box}?",
    "Transcribe the contents of the box {box}.",
    "Read out the part of the image at {box}.",
    "Recognise the text within {box}.",
    "Which text does the region {box} contain?",
    "Identify the text in the bounding box {box}.",
    "Which text is located at {box}?",
    "What text does {box} enclose?",
    "Extract the text from {box}.",
)
READ_PAGES = (
    "Read the text of {pages}.",
    "Write down what is written on {pages}.",
    "Transcribe {pages} of this document.",
    "Give the text of {pages} and of no other page.",
    "What can you read on {pages}?",
    "Copy out {pages} from top to bottom.",
    "Extract the text of {pages}.",
    "What do the pages of this document say? I only need {pages}.",
)
FIND_PAGE = (
    "Which page has the following text? {texts}",
    "On which page does this text appear? {texts}",
    "Find the page that this text was taken from: {texts}",
    "Look up where this is written and answer with the page: {texts}",
    "Name the page with this text: {texts}",
    "This text comes from the document shown. Which of its pages is it on? {texts}",
    "Where in these pages can I find the following? {texts}",
    "Tell me which page this is: {texts}",
)
FIND_PAGES = (
    "Which pages have the following texts? {texts}",
    "On which page does each of these texts appear? {texts}",
    "Find the pages that these texts were taken from: {texts}",
    "Look up where each of these is written and answer with the pages: {texts}",
    "Name the page of each text, in this order: {texts}",
    "These texts come from the document shown. Which of its pages are they on? {texts}",
    "Where in these pages can I find the following texts? {texts}",
    "Tell me which pages these are: {texts}",
)
ALL = (
    *(READ_TEXT, TABLE_TO_MARKDOWN, CHART_TO_MARKDOWN, READ_PHOTO, DESCRIBE_PHOTO, CONTINUE_TEXT),
    *(LOCATE_TEXT, RECOGNISE_TEXT, READ_PAGES, FIND_PAGE, FIND_PAGES),
)
