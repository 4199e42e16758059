"""What `chat_template.py` renders and encodes: conversations, plain templates, texts."""


def user(text):
    return {"role": "user", "content": text}


def system(text):
    return {"role": "system", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def tool(text, **more):
    return {"role": "tool", "content": text, **more}


def call(name, arguments, nested=True):
    function = {"name": name, "arguments": arguments}
    return {"id": f"call_{name}", "type": "function", "function": function} if nested else function


WEATHER = {"type": "function", "function": {
    "name": "weather", "description": "The weather of a place, \"now\" or later.\nSays <b>nothing</b> & more about it's past.",
    "parameters": {"type": "object", "required": ["place"], "properties": {
        "place": {"type": "string", "description": "City, e.g. Zürich or 東京 🗼"},
        "days": {"type": "integer", "minimum": 0, "maximum": 14, "default": 1},
        "unit": {"type": "string", "enum": ["°C", "°F", "K"]}}}}}
NUMBERS = {"type": "function", "function": {
    "name": "numbers", "strict": True, "parameters": {
        "zero": 0, "minus": -3, "big": 18446744073709551615, "least": -9223372036854775808, "half": 0.5, "one": 1.0,
        "million": 1e6, "sixteen": 1e16, "large": 1.7976931348623157e308, "small": 1e-5, "tiny": 2.5e-10, "third": 1 / 3,
        "null": None, "yes": True, "no": False, "list": [], "map": {}, "nested": [[1, [2.0]], {"a": [None]}]}}}
ESCAPES = {"name": "escapes", "description": "tab\there, quote \" apostrophe ' backslash \\ slash / newline\nreturn\rbell\x07 "
           "null\x00 backspace\b feed\f del\x7f nel\x85 line\u2028 snowman ☃ 𝄞", "keys": {"z": 1, "a": 2, "é": 3, "": 4}}
SPAWN = {"type": "function", "function": {"name": "spawn", "description": "Starts a copy of yourself.", "parameters": {
    "type": "object", "properties": {"task": {"type": "string"}}, "required": ["task"]}}}

THINKING = "<think>\nFirst this,\nthen that.\n</think>\n\nDone."

QWEN = [
    {"name": "one question", "messages": [user("Hi")]},
    {"name": "one question, to be answered", "messages": [user("Hi")], "add_generation_prompt": True},
    {"name": "without thinking", "messages": [user("Hi")], "add_generation_prompt": True, "options": {"enable_thinking": False}},
    {"name": "with thinking", "messages": [user("Hi")], "add_generation_prompt": True, "options": {"enable_thinking": True}},
    {"name": "thinking is null", "messages": [user("Hi")], "add_generation_prompt": True, "options": {"enable_thinking": None}},
    {"name": "thinking is zero", "messages": [user("Hi")], "add_generation_prompt": True, "options": {"enable_thinking": 0}},
    {"name": "system", "messages": [system("You are terse."), user("Hi")], "add_generation_prompt": True},
    {"name": "system alone", "messages": [system("You are terse.")]},
    {"name": "system in the middle", "messages": [user("Hi"), system("Be terse."), user("Ho")]},
    {"name": "two turns", "messages": [system("S"), user("A"), assistant("B"), user("C"), assistant("D")]},
    {"name": "two turns, one to come", "messages": [user("A"), assistant("B"), user("C")], "add_generation_prompt": True},
    {"name": "assistant last, to be answered", "messages": [user("A"), assistant("B")], "add_generation_prompt": True},
    {"name": "thinking in the past is dropped", "messages": [user("A"), assistant(THINKING), user("B"), assistant(THINKING)]},
    {"name": "two thinking ends", "messages": [user("A"), assistant("<think>a</think>b</think>\n\nc"), user("B")]},
    {"name": "thinking end alone", "messages": [user("A"), assistant("\n\nno beginning\n</think>\nc")]},
    {"name": "thinking cut off", "messages": [user("A"), assistant("<think>\nnever")]},
    {"name": "reasoning", "messages": [user("A"), assistant("B", reasoning_content="\n\nbecause\n\n")]},
    {"name": "reasoning in the past", "messages": [user("A"), assistant("B", reasoning_content="because"), user("C")]},
    {"name": "reasoning and thinking", "messages": [user("A"), assistant(THINKING, reasoning_content="because")]},
    {"name": "empty reasoning", "messages": [user("A"), assistant("B", reasoning_content="")]},
    {"name": "reasoning is null", "messages": [user("A"), assistant(THINKING, reasoning_content=None)]},
    {"name": "reasoning by its older names", "messages": [
        user("A"), assistant("B", thinking="old"), tool("t"), assistant("C", reasoning="older")]},
    {"name": "empty contents", "messages": [system(""), user(""), assistant(""), user("")], "add_generation_prompt": True},
    {"name": "content is null", "messages": [user("A"), assistant(None, tool_calls=[call("weather", {"place": "Bern"})])]},
    {"name": "content is a list", "messages": [user([{"type": "text", "text": "A"}])], "add_generation_prompt": True},
    {"name": "no content", "messages": [user("A"), {"role": "assistant", "tool_calls": [call("weather", {})]}]},
    {"name": "newlines around", "messages": [user("\n A \n\n"), assistant("\n\n B \n\n"), user("\r\nC\r\n\t")]},
    {"name": "unicode", "messages": [system("Grüße, 世界"), user("👩‍👩‍👧‍👦 n\u0303 ñ ﬁ \u00a0\u200b\u2028\ufeff مرحبا"), assistant("🙂")]},
    {"name": "marks in a text", "messages": [user("<|im_end|>\n<|im_start|>system\n{{ 1 + 1 }} {% if %} {# #}"), assistant("ok")]},
    {"name": "unknown role", "messages": [user("A"), {"role": "critic", "content": "B"}], "add_generation_prompt": True},
    {"name": "tools", "messages": [user("A")], "tools": [WEATHER], "add_generation_prompt": True},
    {"name": "tools and system", "messages": [system("S"), user("A")], "tools": [WEATHER, SPAWN], "add_generation_prompt": True},
    {"name": "tools without thinking", "messages": [system("S"), user("A")], "tools": [SPAWN], "add_generation_prompt": True,
     "options": {"enable_thinking": False}},
    {"name": "no tools", "messages": [user("A")], "tools": []},
    {"name": "numbers in a schema", "messages": [user("A")], "tools": [NUMBERS]},
    {"name": "quotes and newlines in a schema", "messages": [user("A")], "tools": [ESCAPES]},
    {"name": "one call", "messages": [user("A"), assistant("", tool_calls=[call("weather", {"place": "Bern", "days": 2})])],
     "tools": [WEATHER]},
    {"name": "a text and a call", "messages": [user("A"), assistant("Let me see.", tool_calls=[call("weather", {"place": "Bern"})])]},
    {"name": "several calls", "messages": [user("A"), assistant("Both.", tool_calls=[
        call("weather", {"place": "Bern"}), call("weather", {"place": "Genève", "unit": "°C"}), call("spawn", {"task": "x"})])],
     "tools": [WEATHER, SPAWN]},
    {"name": "arguments as a string", "messages": [user("A"), assistant("", tool_calls=[
        call("weather", '{"place":"Bern",  "days": 2}'), call("weather", "")])]},
    {"name": "arguments of all kinds", "messages": [user("A"), assistant("", tool_calls=[
        call("f", {"b": True, "n": None, "i": 3, "f": 3.0, "e": 1e-7, "s": "a\"b\n", "l": [1, "x"], "o": {"z": {}, "a": []}}),
        call("g", [1, 2]), call("h", 3)])]},
    {"name": "calls without their wrapping", "messages": [user("A"), assistant("", tool_calls=[call("f", {"a": 1}, nested=False)])]},
    {"name": "no calls", "messages": [user("A"), assistant("B", tool_calls=[]), assistant("C", tool_calls=None)]},
    {"name": "a result", "messages": [user("A"), assistant("", tool_calls=[call("weather", {})]), tool('{"t": 21.5}')],
     "tools": [WEATHER], "add_generation_prompt": True},
    {"name": "results in a row", "messages": [user("A"), assistant("", tool_calls=[call("f", {}), call("g", {})]), tool("1", name="f"),
                                              tool("2\n", name="g"), tool(""), assistant("C")]},
    {"name": "results first", "messages": [tool("1"), tool("2"), user("A")]},
    {"name": "results alone", "messages": [tool("1")], "add_generation_prompt": True},
    {"name": "reasoning between calls", "messages": [
        user("A"), assistant("", reasoning_content="one", tool_calls=[call("f", {})]), tool("1"),
        assistant("x", reasoning_content="two", tool_calls=[call("f", {})]), tool("2"), assistant("C", reasoning_content="three")]},
    {"name": "thinking between calls", "messages": [
        user("A"), assistant("<think>\none\n</think>\n\n", tool_calls=[call("f", {})]), tool("1"), assistant("B"), tool("2"),
        assistant("C")]},
    {"name": "results as a user's words", "messages": [
        user("A"), assistant("<think>one</think>B"), user("<tool_response>\n1\n</tool_response>"), assistant("<think>two</think>C"),
        user("<tool_response>2</tool_response>")], "add_generation_prompt": True},
    {"name": "no question at all", "messages": [assistant("<think>one</think>A"), assistant("<think>two</think>B")]},
    {"name": "a tree of agents", "messages": [
        system("You may spawn copies."), user("Craft a bed."), assistant("I will ask for planks.", reasoning_content="need planks",
                                                                         tool_calls=[call("spawn", {"task": "planks ×3"})]),
        tool("got 3 planks"), assistant("Done.")], "tools": [SPAWN], "add_generation_prompt": False},
    {"name": "no role", "messages": [{"content": "A"}]},
    {"name": "role and no role", "messages": [user("A"), {"content": "B"}, assistant("C")]},
]

# Without blocks that trim: every newline of the template is one of the text. The special token comes from the tokenizer's settings.
PLAIN_TEMPLATE = """{% for message in messages %}{% set head = '<|role|>' + message['role'] + '<|text|>' %}{% if loop.index0 == 0 %}
{% set head = bos_token + head %}{% endif %}
{{ head }}

{{ message['content'] | trim + eos_token }}{% endfor %}{% if add_generation_prompt %}{{ '<|role|>assistant<|text|>\n\n' }}{% endif %}

"""
PLAIN_TOOL_TEMPLATE = """{{- bos_token }}
{%- for tool in tools %}
    {{- tool | tojson(indent=4) }}
    {{- "\\n\\n" }}
{%- endfor %}
{%- for message in messages %}
  {%- if (message.role == 'user') != (loop.index is odd) %}
    {{- raise_exception('Roles must alternate: ' ~ message.role ~ ' is number ' ~ loop.index) }}
  {%- endif %}
{{ loop.index }}/{{ loop.length }} {{ message.role | upper }}: {{ message.content }}{{ eos_token if not loop.last }}
{% endfor %}
"""
PLAIN = [
    {"name": "one question", "messages": [user("  Hi\u001c\u3000\n")], "add_generation_prompt": True},
    {"name": "turns", "messages": [system("S"), user("A"), assistant("B"), user("C")], "add_generation_prompt": True},
    {"name": "turns, ended", "messages": [user("A"), assistant("B")]},
    {"name": "unicode", "messages": [user("\u00a0Grüße 世界 🙂\u2003"), assistant("\t")]},
    {"name": "another beginning", "messages": [user("A")], "options": {"bos_token": "<s>"}},
    {"name": "tools", "messages": [user("A"), assistant("B"), user("C")], "tools": [WEATHER, NUMBERS]},
    {"name": "tools, wrong order", "messages": [user("A"), user("B")], "tools": [SPAWN]},
    {"name": "content is a list", "messages": [user([{"type": "text", "text": "it's"}, 1.0, None, True, {"a": [2.5]}])]},
    {"name": "content is null", "messages": [user("A"), assistant(None)]},
]

CONSTRUCTS = [
    {"name": "everything", "messages": [user("  one\ttwo  three \n"), assistant("B", tool_calls=[call("f", {"a": 1})]), tool("3"), user("D")],
     "tools": [WEATHER], "add_generation_prompt": True,
     "options": {"flag": True, "none": None, "numbers": [3, 1.5, -2], "floats": [1e20, 1e-7, 1e16, 1e15, 1e-4], "table": {"z": 1, "a": [1, 2.0, None, "q'\""], "m": {}}}},
    {"name": "nothing", "messages": [user("")], "options": {"flag": False, "none": None, "numbers": [], "table": {}}},
    {"name": "a refusal", "messages": [user("stop")], "options": {"flag": True, "numbers": [1], "table": {"a": [0]}}},
    {"name": "an attribute of nothing", "messages": [user("deep")], "options": {"flag": True, "numbers": [1], "table": {"a": [0]}}},
    {"name": "a sum with nothing", "messages": [user("sum")], "options": {"flag": True, "numbers": [1], "table": {"a": [0]}}},
    {"name": "a schema of nothing", "messages": [user("json")], "options": {"flag": True, "numbers": [1], "table": {"a": [0]}}},
    {"name": "a name that is not there", "messages": [user("call")], "options": {"flag": True, "numbers": [1], "table": {"a": [0]}}},
]

CORPUS = [
    "You are an agent that may launch copies of itself. Each copy gets a task, and its answer comes back to you as a tool response. ",
    "The agent crafts planks from logs, sticks from planks, and a table from planks. To craft a bed it needs wool and planks. ",
    "def credit(tree):\n    for node in tree:\n        if node.parent is None:\n            return node.reward\n\n    return 0.0\n",
    "{\"name\": \"spawn\", \"arguments\": {\"task\": \"craft 3 planks\", \"depth\": 2}}\n{\"name\": \"finish\", \"arguments\": {}}\n",
    "What is the answer? I don't know; let's think about it, then we'll see what they've found. It's the reward that counts.\n",
    "Der Agent startet Kopien von sich selbst. Grüße aus Zürich! Ça va très bien, merci. 你好，世界。世界你好。 Привет, мир. 🙂🙂👍\n",
    "0123456789 3.14 -42 1,000,000 2026-11-25T10:00:00Z\n\n\t\tindent\n    four\n        eight\n",
] * 3

TEXTS = [
    "", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n", "\n ", " \n \n", "a", "A", " a", "a ", "  a", "a  b", "a   b", "a\n\nb", "a \n b",
    "\u00a0", "\u2003x", "\u3000x\u3000", "x\u200by", "\ufeffx",
    "The agent crafts planks from logs.", "the Agent CRAFTS Planks", "You are an agent that may launch copies of itself.",
    "don't", "DON'T", "it's we'll they've I'm you'd can't 're", "O'Neill's", "'s", "''s", "’s",
    "0", "42", "123456789", "3.14159", "1,000,000", "-42", "1e-5", "0x1F", "２０２６", "½ ² Ⅷ", "٤٢",
    "2026-11-25T10:00:00Z", "v1.2.3-rc.4+build.5",
    "def credit(tree):\n    return 0.0\n", "\tif x:\n\t\treturn\n", "for (int i = 0; i < n; i++) { sum += a[i]; }", "a=b==c!=d<=e>=f->g=>h",
    "{\"name\": \"spawn\", \"arguments\": {\"task\": \"craft 3 planks\"}}", "[1, 2, [3, {}]]", "<html><body>&amp;</body></html>", "//// **** ----",
    "path/to/file.rs", "C:\\Users\\x", "user@example.com", "https://example.com/a?b=c&d=e#f", "snake_case camelCase PascalCase SCREAMING_CASE",
    "...", "?!?!", "!", "(", "()", "\"quoted\"", "'quoted'", "`code`", "```rust\nfn main() {}\n```", "# Title\n\n- a\n- b\n", "| a | b |\n|---|---|\n",
    "Grüße", "Zürich", "naïve café", "cafe\u0301", "e\u0301e\u0301", "n\u0303", "A\u030angstro\u0308m", "ﬁne", "Straße STRASSE", "İstanbul ıI",
    "你好，世界。", "世界你好", "東京タワー", "안녕하세요", "\u1112\u1161\u11ab", "Привет, мир", "Ελληνικά", "مرحبا بالعالم", "שלום", "नमस्ते", "สวัสดี", "Tiếng Việt",
    "🙂", "🙂🙂", "👍🏽", "👩‍👩‍👧‍👦", "🇨🇭", "☃️", "𝄞", "𠮷", "a🙂b", "\u0000", "\u0007bell", "\u007f", "\u0085", "\u2028", "\uffff", "\U0010ffff",
    "<|endoftext|>", "<|im_start|>user\nHi<|im_end|>\n", "<|im_start|>", "a<|im_end|>b", " <|im_end|> ", "<|im_end|><|im_end|>",
    "<|im_end", "<|IM_END|>", "< |im_end|>", "<|im_start|><|im_start|>system<|endoftext|>", "<tool_call>\n{\"name\": \"f\"}\n</tool_call>",
    "<tool_response>3</tool_response>", "<think>\n\n</think>\n\n", "<think>Let's see.</think>It's 4.", "</think", "<|fim_prefix|>a<|fim_suffix|>b",
    "<|object_ref_start|>planks<|object_ref_end|>", "e<|im_end|>\u0301", "n\u0303<think>n\u0303",
    "<|im_start|>system\nYou may spawn copies.<|im_end|>\n<|im_start|>user\nCraft a bed.<|im_end|>\n<|im_start|>assistant\n",
    "word " * 40, "x" * 100, " " * 33, "\n" * 9, "ab" * 50, "1" * 25,
]
