"""A program that has only grpcio and the proto files (by reflection): opens a channel, adds friends, broadcasts,
redeems, and tails the events while the leader's process is killed under it.

usage: scenario.py ENDPOINTS_JSON   (written by `sillok dev`)
"""
import json
import os
import pathlib
import signal
import sys
import threading
import time
import uuid

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

ENDPOINTS = pathlib.Path(sys.argv[1]).resolve()
SITES = json.loads(ENDPOINTS.read_text(encoding="utf-8"))["sites"]

RETRY = {
    "methodConfig": [{
        "name": [{}],
        "retryPolicy": {
            "maxAttempts": 5, "initialBackoff": "0.2s", "maxBackoff": "1s", "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
        },
    }],
    "loadBalancingConfig": [{"round_robin": {}}],
}
channel = grpc.insecure_channel(
    "ipv4:" + ",".join(site["client"] for site in SITES),
    # Several addresses make no host name of themselves, so one is given.
    options=[("grpc.service_config", json.dumps(RETRY)), ("grpc.default_authority", "sillok")],
)

# Every message class comes from the server's own reflection.
POOL = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))


def message(name):
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName("sillok.v1." + name))


def method(service, name):
    described = POOL.FindServiceByName("sillok.v1." + service).FindMethodByName(name)
    request = message_factory.GetMessageClass(described.input_type)
    answer = message_factory.GetMessageClass(described.output_type)
    kind = channel.unary_stream if described.server_streaming else channel.unary_unary
    call = kind(
        f"/sillok.v1.{service}/{name}",
        request_serializer=request.SerializeToString,
        response_deserializer=answer.FromString,
    )
    return request, call


def write(rpc, /, **fields):
    """One intent, one key: repeated with the same key until it is answered."""
    request, call = method("Commands", rpc)
    body = request(channel_id=SHOP, **fields)
    body.context.retry_key = uuid.uuid4().hex
    deadline = time.monotonic() + 30
    while True:
        try:
            return call(body, timeout=5)
        except grpc.RpcError as error:
            retry = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            if not retry or time.monotonic() > deadline:
                raise


def process_of(site):
    """The id of the site's process: the one that runs with its configuration."""
    config = str(ENDPOINTS.parent / site["site"] / "node.toml").encode()
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and config in (entry / "cmdline").read_bytes().split(b"\0"):
                return int(entry.name)
        except OSError:
            pass  # it ended meanwhile
    raise SystemExit(f"no process runs with {config.decode()}")


def read(service, rpc, /, **fields):
    request, call = method(service, rpc)
    return call(request(**fields), timeout=10)


SHOP = "python-" + uuid.uuid4().hex[:8]
revisions = []
caught = threading.Condition()


def tail():
    """Follows the channel from its first revision; resumes after the last one seen, at whichever site answers."""
    request, call = method("Queries", "ReadEvents")
    while True:
        try:
            start = request(channel_ids=[SHOP], from_revision=len(revisions) + 1, follow=True)
            for answer in call(start):
                with caught:
                    revisions.extend(item.event.revision for item in answer.items)
                    caught.notify_all()
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.CANCELLED:
                return


write("OpenChannel", name="파이썬 가게")
threading.Thread(target=tail, daemon=True).start()
for n in range(20):
    write("AddFriend", user_key=f"friend-{n}")

sent = write("SendBroadcast", body=message("MessageBody")(text="안녕하세요", unit_price_won=15))
assert sent.send.audience_count == 20 and sent.send.cost_won == 300, sent
write("DefineCoupon", coupon_id="welcome", name="첫 방문", cap=10, per_friend_limit=1)
write("IssueTicket", coupon_id="welcome", user_key="friend-3", ticket_id="welcome-3")

status = read("Cluster", "GetStatus")
leader = next(site for site in SITES if site["id"] == status.leader_id)
os.kill(process_of(leader), signal.SIGKILL)
print(f"killed the leader at {leader['site']}")

began = time.monotonic()
write("RedeemTicket", ticket_id="welcome-3")
print(f"redeemed {time.monotonic() - began:.2f} s after the kill")
try:
    write("RedeemTicket", ticket_id="welcome-3")
    raise SystemExit("redeemed twice")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error
for n in range(20, 30):
    last = write("AddFriend", user_key=f"friend-{n}")

with caught:
    assert caught.wait_for(lambda: revisions and revisions[-1] == last.revision, timeout=30), revisions[-1:]
assert revisions == list(range(1, last.revision + 1)), "a gap or a duplicate in the tail"
counted = read("Queries", "CountFriends", channel_id=SHOP)
assert counted.count == 30, counted
print(f"{len(revisions)} events tailed across the kill, gapless; {counted.count} friends")
