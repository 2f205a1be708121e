"""
The other end of the conversation.

Everything returns a Deferred, which may be awaited::

    client = await connect(reactor, ServerAddress.parse("example.org"), trust)
    await client.login("alice", "correct horse")
    for message in await client.last():
        print(message.sender, message.body)
    await client.quit()

`securerecv.client.connect.connect` makes a `securerecv.client.client.Client`; what
``trust`` may be is in `securerecv.client.trust`.
"""
