"""What people ask when they want marks listed: our own sentences, in the two families that SoM-LLaVA's data has.

One is drawn for each image, so a model learns the task and not a wording. Two things vary: what the picture is said to
carry (a number on every object, or on some objects and parts of the background) and the form (question, order,
request).
"""

from __future__ import annotations

EVERY_OBJECT = (
    "Every object in this picture has a number drawn at its centre. Name the objects in the order of their numbers.",
    "Each object here carries a numeric ID in its middle. What are they, from the lowest ID to the highest?",
    "I put a number on the centre of every object. Please go through the numbers and say what each object is.",
    "All the objects have been numbered at their centres. List them in ascending order, one per line.",
    "A bright numeric ID sits at the middle of each object. Enumerate what the IDs stand for, starting with 1.",
    "Could you read off the numbers placed on the objects one after another and tell me what each object is?",
    "You see one number per object, drawn at its centre. Give me the full list of names in numeric order.",
    "Starting from 1, which object belongs to each of the numbers drawn at the objects' centres?",
    "Please write a numbered list of all objects, using the ID that is printed in the middle of each one.",
    "Each thing in the image was given an ID at its centre. Count up through the IDs and name the thing behind each.",
    "What does every number in this image label? The numbers are placed at the centres of the objects.",
    "Work through the objects by their centre numbers and state the name of each, leaving none out.",
    "The objects are numbered in the middle, from small to large. Would you kindly identify all of them in that order?",
    "For each numeric ID at the centre of an object, write the ID and then what the object is.",
)

SOME_REGIONS = (
    "Parts of this photo have been given numbers. Beginning with the smallest, what has been numbered?",
    "Something lies under each of these numbered tags. What is it? Reply with a numbered list.",
    "Some objects and some parts of the background wear numeric tags. Identify what is under every tag.",
    "Look at the tagged places in this image and itemise them: the tag number first, then what it marks.",
    "Please list what each tag in the picture points out, whether it is an object or a piece of background.",
    "A few items and background areas are tagged with numbers. What are they, one by one?",
    "Go through the tags in increasing order and describe briefly what each of them is placed on.",
    "Catalogue the tagged regions of this image. Use the tag numbers as your list numbers.",
    "What do the numbered tags on this image stand for? Cover all of them in order.",
    "There are numeric tags on certain objects and background regions. Tell me what each tag identifies.",
    "Can you name, tag by tag, the things that have been marked with a number here?",
    "I tagged parts of this scene with numbers, including some of the background. Please say what every tag is on.",
    "Make an inventory of the tagged contents of this image, ordered by tag.",
    "Read the tags from 1 upwards. For each one, what object or background element does it lie on?",
    "Several regions in the picture are marked by small numbers. Write down what each region shows.",
    "Would you list the marked items for me? Each has a number on it; keep to the order of the numbers.",
    "Numbers label some foreground objects and some surroundings in this view. Match every number to its content.",
    "State what each numeric mark in this image refers to, without skipping any.",
    "The photo has numbers on selected things and surfaces. Which thing or surface goes with which number?",
    "Identify all numbered regions, both objects and background, as a list that follows the numbering.",
    "Small tags with numbers are scattered over this image. What is tagged by each?",
    "Please explain the numbering in this picture: for every tag, name the object or the area it belongs to.",
    "One after another, what is marked with each of the numbers you can see?",
    "Take every tag in turn and say what lies directly beneath it.",
    "Describe the tagged elements in this image item by item; some may belong to the background.",
    "Parts of this picture carry numbered labels. Give the name of the part under each label, in order.",
    "Tell me which objects or bits of scenery were tagged, following the tags from first to last.",
    "Use the numeric tags as a guide and list everything they mark, objects and background alike.",
    "Would you please write one line for each numbered tag that says what it has been put on?",
    "The numbers in this image each mark something. Work out what, and report it in numerical order.",
)
