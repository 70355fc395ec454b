import json, os, sys, uuid
import grpc

sys.path.insert(0, "proto")  # where grpc finds sillok/v1/*.proto
protos, services = grpc.protos_and_services("sillok/v1/commands.proto")
common = grpc.protos("sillok/v1/common.proto")

# Any node takes any call. Repeating a write with the same retry key is always safe, so the channel may retry by itself.
retry = {"maxAttempts": 5, "initialBackoff": "0.2s", "maxBackoff": "1s", "backoffMultiplier": 2,
         "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]}
config = {"loadBalancingConfig": [{"round_robin": {}}], "methodConfig": [{"name": [{}], "retryPolicy": retry}]}
sites = os.environ.get("SILLOK_ENDPOINTS", "127.0.0.1:7401,127.0.0.1:7402,127.0.0.1:7403")
options = [("grpc.service_config", json.dumps(config)), ("grpc.default_authority", "sillok")]
channel = grpc.insecure_channel("ipv4:" + sites, options=options)
sillok = services.CommandsStub(channel)

def key():
    return common.CommandContext(retry_key=uuid.uuid4().hex)

shop = "bakery-" + uuid.uuid4().hex[:8]
sillok.OpenChannel(protos.OpenChannelRequest(context=key(), channel_id=shop, name="동네 빵집"))
print("open", flush=True)
for n in range(100):
    sillok.AddFriend(protos.AddFriendRequest(context=key(), channel_id=shop, user_key=f"guest-{n}"))
body = common.MessageBody(text="오늘 구운 식빵이 나왔습니다", unit_price_won=15)
receipt = sillok.SendBroadcast(protos.SendBroadcastRequest(context=key(), channel_id=shop, body=body))
print(f"{receipt.send.audience_count} friends, {receipt.send.cost_won} won")
