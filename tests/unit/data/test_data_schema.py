import pytest

from llava_som.data.schema import Sample
from tests.unit.data.scene_records import scene


def turns(*texts):
    return [
        {"from": speaker, "value": text} for speaker, text in zip(["human", "gpt"] * len(texts), texts, strict=False)
    ]


def parts(sample, position=0):
    return [part.text if part.type == "text" else "IMAGE" for part in sample.messages[position].content]


def test_placeholders_become_image_parts_where_they_stand():
    sample = Sample.from_record(
        {"id": 7, "image": ["a.png", "b.png"], "conversations": turns("Compare <image>\nwith <image>", "same")}
    )
    assert sample.id == "7"
    assert sample.images == ["a.png", "b.png"]
    assert parts(sample) == ["Compare ", "IMAGE", "with ", "IMAGE"]


def test_the_line_break_that_the_template_writes_is_not_written_twice():
    assert parts(Sample.from_record(scene(0))) == ["IMAGE", "List the tagged items one by one."]


def test_llava_and_chat_forms_are_the_same_sample():
    chat = {
        "id": "scene-0",
        "images": ["0.png"],
        "messages": [
            {
                "role": "user",
                "content": [{"type": "image"}, {"type": "text", "text": "List the tagged items one by one."}],
            },
            {"role": "assistant", "content": "1. red circle\n2. blue square"},
        ],
    }
    assert Sample.from_record(chat) == Sample.from_record(scene(0))


def docowl(images, *texts, roles=("user", "assistant")):
    said = [{"role": roles[k % len(roles)], "content": text} for k, text in enumerate(texts)]
    return {"image": images, "messages": said, "task_name": "qa_sft", "dataset_name": "DocVQA"}


def test_docowl_records_show_their_images_by_their_own_placeholder():
    record = docowl(
        ["a.png", "b.png"], "<|image|><|image|>Which page is newer?", "The second.", "And why?", "Its date."
    )
    sample = Sample.from_record(record)
    assert sample.images == ["a.png", "b.png"] and parts(sample) == ["IMAGE", "IMAGE", "Which page is newer?"]
    with_system = docowl(["a.png"], "Be brief.", "<|image|>Total?", "5", roles=("system", "user", "assistant"))
    assert [message.role for message in Sample.from_record(with_system).messages] == ["system", "user", "assistant"]
    assert (
        Sample.from_record(docowl(["0.png"], "<|image|>Hi", "Ho")).messages
        == Sample.from_record({"image": "0.png", "conversations": turns("<image>\nHi", "Ho")}).messages
    )
    literal = {"conversations": turns("What is <|image|>?", "A token of DocOwl's.")}
    assert parts(Sample.from_record(literal)) == ["What is <|image|>?"]


def test_system_turn_comes_first():
    sample = Sample.from_record({"conversations": [{"from": "system", "value": "Be brief."}, *turns("Hi", "Hello")]})
    assert [message.role for message in sample.messages] == ["system", "user", "assistant"]


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"image": ["a", "b"], "conversations": turns("<image>", "x")}, "1 <image>, the record names 2 image"),
        ({"conversations": turns("<image> and <image>", "x")}, "2 <image>, the record names 0 image"),
        ({"conversations": turns("a", "b", "c")}, "must alternate"),
        ({"conversations": turns("a")}, "must alternate"),
        ({"conversations": [{"from": "gpt", "value": "x"}, {"from": "human", "value": "x"}]}, "must alternate"),
        ({"conversations": turns("a", " \n")}, "turn 1 is an empty answer"),
        ({"conversations": turns("a", "see <image>"), "image": "a"}, "turn 1 .* only users show images"),
        ({"conversations": turns("a", 5)}, "turn 1 says 5"),
        ({"conversations": [{"from": "bot", "value": "x"}]}, "from 'bot'; allowed: human"),
        ({"conversations": [{"from": ["gpt"], "value": "x"}]}, "is from .'gpt'."),
        ({"conversations": turns("half a pair: \ud800", "x")}, "surrogates not allowed"),
        ({"conversations": ["hello"]}, "turn 0 is 'hello'"),
        ({"conversations": []}, "no turns"),
        ({"caption": "x"}, "no turns"),
        ({"image": 5, "conversations": turns("a", "b")}, "images=5"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "'video'"),
        (docowl(["a", "b"], "<|image|>Read", "x"), r"1 <\|image\|>, the record names 2 image"),
        (docowl(["a"], "Read", "x"), "0 <image>, the record names 1 image"),
        (docowl(["a"], "<|image|>Read <image>", "x"), r"both <\|image\|> and <image>"),
        (docowl(["a"], "<|image|>Read", "<|image|>"), "turn 1 is an empty answer"),
    ],
)  # fmt: skip
def test_a_broken_record_says_which_rule_it_breaks(record, said):
    with pytest.raises(ValueError, match=said):
        Sample.from_record(record)
