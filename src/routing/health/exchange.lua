-- One round trip between a gateway and the shared health: writes each value whose version is still the expected one,
-- and answers with all that has changed since the caller last looked. What the values mean is decided by the gateways.
-- Nothing that is found here is believed: keys that do not fit together, or are older than what the caller has seen, are
-- an emptied store, and begin a new life that the gateways fill from what they know.
--
-- KEYS: state (hash: epoch, seq, count), versions (sorted set: subject by version), values (hash: subject to value)
-- ARGV: a word for a new epoch, the caller's epoch, the version it has seen, 1 if the store has to begin anew, then
--       subject, expected version and value of each write; an empty value removes
local state, versions, values = KEYS[1], KEYS[2], KEYS[3]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
-- No two clocks differ by more.
local AHEAD = 60000

-- A whole number that a double holds exactly, from its digits.
local function whole(text)
  if type(text) ~= 'string' or #text > 15 or not string.match(text, '^%d+$') then return nil end
  return tonumber(text)
end

local function digits(number) return string.format('%.0f', number) end

-- When an epoch began: milliseconds.
local function began(epoch)
  if type(epoch) ~= 'string' or #epoch > 64 then return nil end
  return whole(string.match(epoch, '^(%d+)%-%w+$'))
end

-- How many entries a key has that should be of this type; nil if it is of another one.
local function size(key, kind, command)
  local found = redis.call('TYPE', key).ok
  if found == 'none' then return 0 end
  if found ~= kind then return nil end
  return redis.call(command, key)
end

-- Epoch and last version; or nothing, and why.
local function read()
  local fields, ranked, valued = size(state, 'hash', 'HLEN'), size(versions, 'zset', 'ZCARD'), size(values, 'hash', 'HLEN')
  if fields == 0 and ranked == 0 and valued == 0 then return nil, 'empty' end
  if not fields or not ranked or not valued then return nil, 'torn' end
  local found = redis.call('HMGET', state, 'epoch', 'seq', 'count')
  local at, seq, count = began(found[1]), whole(found[2]), whole(found[3])
  if not at or not seq or not count or at > now + AHEAD then return nil, 'torn' end
  if ranked ~= count or valued ~= count then return nil, 'torn' end
  for _, from in ipairs({ 0, -1 }) do
    local score = redis.call('ZRANGE', versions, from, from, 'WITHSCORES')[2]
    local version = whole(score)
    if score and (not version or version < 1 or version > seq) then return nil, 'torn' end
  end
  return found[1], seq
end

local mine, since = ARGV[2], whole(ARGV[3]) or 0
local epoch, seq = read()
local life, why = 'known', ''
if not epoch then
  life, why = 'new', seq
elseif ARGV[4] == '1' then
  life, why = 'new', 'deaf'
elseif epoch == mine then
  -- A version from the future: a replica that had not heard of it has taken over, or an old copy was put back.
  if since > seq then life, why = 'new', 'rewound' end
elseif began(mine) and began(epoch) < began(mine) then
  life, why = 'new', 'older'
else
  life = 'other'
end

if life == 'new' then
  redis.call('DEL', state, versions, values)
  -- Younger than any that is known, unless that one is from a clock that was wrong.
  local at, last = now, began(mine)
  if last and last >= at and last <= now + AHEAD then at = last + 1 end
  epoch, seq = digits(at) .. '-' .. ARGV[1], 0
  redis.call('HSET', state, 'epoch', epoch, 'seq', '0', 'count', '0')
end
if life ~= 'known' then since = 0 end

local refused = {}
if life == 'known' and #ARGV > 4 then
  for at = 5, #ARGV, 3 do
    local subject, expected, value = ARGV[at], ARGV[at + 1], ARGV[at + 2]
    if (redis.call('ZSCORE', versions, subject) or '0') ~= expected then
      refused[#refused + 1] = subject
    elseif value == '' then
      redis.call('ZREM', versions, subject)
      redis.call('HDEL', values, subject)
    else
      seq = seq + 1
      redis.call('ZADD', versions, digits(seq), subject)
      redis.call('HSET', values, subject, value)
    end
  end
  redis.call('HSET', state, 'seq', digits(seq), 'count', digits(redis.call('ZCARD', versions)))
end

local changed, told = {}, {}
local function tell(subject)
  if told[subject] then return end
  told[subject] = true
  changed[#changed + 1] = subject
  changed[#changed + 1] = redis.call('ZSCORE', versions, subject) or '0'
  changed[#changed + 1] = redis.call('HGET', values, subject) or ''
end
for _, subject in ipairs(redis.call('ZRANGEBYSCORE', versions, '(' .. digits(since), '+inf')) do tell(subject) end
-- Whoever wrote over another version, or over one that is gone, hears what there is.
for _, subject in ipairs(refused) do tell(subject) end

return { epoch, digits(seq), time[1], time[2], life, why, changed }
