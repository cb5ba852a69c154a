"""How values that an application hands in are checked: options when they are made, arguments at the call."""
