"""What the tests of the chat templates share: messages, a tool, a call of it."""

SYSTEM, USER, ASSISTANT, TOOL = "system", "user", "assistant", "tool"
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather, 'now' & <here>",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


def said(*messages):
    return [{"role": role, "content": content} for role, content in messages]


def call(name, arguments, content=""):
    return {
        "role": ASSISTANT,
        "content": content,
        "tool_calls": [{"type": "function", "function": {"name": name, "arguments": arguments}}],
    }
