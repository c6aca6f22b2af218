-- One round trip between a gateway and the shared health: writes each value whose version is still the expected one,
-- and answers with all that has changed since the caller last looked. What the values mean is decided by the gateways.
--
-- KEYS: state (hash: epoch, seq), versions (sorted set: subject by version), values (hash: subject to value)
-- ARGV: an epoch for an empty store, the caller's epoch, the version it has seen, then subject, expected version and
--       value of each write
local state, versions, values = KEYS[1], KEYS[2], KEYS[3]

local epoch = redis.call('HGET', state, 'epoch')
if not epoch then
  redis.call('DEL', state, versions, values)
  redis.call('HSET', state, 'epoch', ARGV[1], 'seq', 0)
  epoch = ARGV[1]
end
local seq = tonumber(redis.call('HGET', state, 'seq'))
local since = tonumber(ARGV[3])
-- Another epoch: it was emptied. A version from the future: a replica that had not heard of it has taken over.
local known = epoch == ARGV[2] and since <= seq
if not known then since = 0 end

if known then
  for at = 4, #ARGV, 3 do
    local have = tonumber(redis.call('ZSCORE', versions, ARGV[at]) or 0)
    if have == tonumber(ARGV[at + 1]) then
      seq = redis.call('HINCRBY', state, 'seq', 1)
      redis.call('ZADD', versions, seq, ARGV[at])
      redis.call('HSET', values, ARGV[at], ARGV[at + 2])
    end
  end
end

local changed = {}
local found = redis.call('ZRANGEBYSCORE', versions, '(' .. string.format('%.0f', since), '+inf', 'WITHSCORES')
for at = 1, #found, 2 do
  changed[#changed + 1] = found[at]
  changed[#changed + 1] = string.format('%.0f', tonumber(found[at + 1]))
  changed[#changed + 1] = redis.call('HGET', values, found[at]) or ''
end

local now = redis.call('TIME')
return { epoch, string.format('%.0f', seq), now[1], now[2], known and 1 or 0, changed }
