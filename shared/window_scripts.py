"""The transitions of the reward window, as Redis runs them: each a script, so each one step.

Every script gets the five keys of a shard, as `shared.redis_window` lists them.
"""

from typing import Final

_HEAD: Final = """
local decisions, states, due, outbox, kept = unpack(KEYS)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function ms(number) return string.format('%.0f', number) end
local function expire(id, at)
    redis.call('ZREM', due, id)
    redis.call('HSET', states, id, 'z 0 ' .. at .. '  0')
    redis.call('ZADD', outbox, 0, id)
end
"""

_ATTEMPTS: Final = """
local function has(names, name)
    return string.find(',' .. names .. ',', ',' .. name .. ',', 1, true) ~= nil
end
local function with(names, name) return names == '' and name or names .. ',' .. name end
local function without(names, name)
    local left = {}
    for each in string.gmatch(names, '[^,]+') do
        if each ~= name then left[#left + 1] = each end
    end
    return table.concat(left, ',')
end
local function attempts(state)
    if string.sub(state, 1, 1) == 'x' then return '', string.sub(state, 3) end
    local live, gone = string.match(state, '^w (%S*) ?(%S*)$')
    return live or '', gone or ''
end
local function waits(live, gone) return 'w ' .. live .. (gone == '' and '' or ' ' .. gone) end
local function refuses(live, gone, name, most)
    if has(gone, name) then return true end
    local _, known = string.gsub(with(live, gone), '[^,]+', '')
    return known >= most
end
"""
"""What is known of the attempts at a decision: those answered with it, and those withdrawn."""

# Memory is checked at a script's first write only. Where a decision is resolved that is the ZREM,
# which is always allowed: a full store still lets windows end and outboxes empty. Where none is
# resolved and the outbox holds something, TAKE removes what is not there; WITHDRAW does always.
OPEN: Final = (
    _HEAD
    + _ATTEMPTS
    + """
local window, most, attempt = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[4]
local most_attempts = tonumber(ARGV[3])
local waiting = redis.call('ZCARD', due) + redis.call('ZCARD', outbox)
local ends = ms(now + window)
local text, from, place, answers = ARGV[5], 1, 0, {}
local opened, bodies, marks, dues, again = {}, {}, {}, {}, {}
local function asked(text)
    local readable, found = pcall(function() return cjson.decode(text).request end)
    return readable and found
end
while from <= #text do
    local space = string.find(text, ' ', from, true)
    local last = string.find(text, '\\n', space, true)
    local id, stored = string.sub(text, from, space - 1), string.sub(text, space + 1, last - 1)
    local state = redis.call('HGET', states, id)
    local kind = state and string.sub(state, 1, 1)
    local answer
    local live, gone = '', ''
    if kind == 'w' or kind == 'x' then live, gone = attempts(state) end
    if opened[id] then
        answer = asked(opened[id]) == asked(stored) and opened[id] or 'reused'
    elseif kind and kind ~= 'x' then
        answer = redis.call('HGET', decisions, id)
        local before = asked(answer)
        if not before then
            answer = 'unreadable'
        elseif before ~= asked(stored) then
            answer = 'reused'
        elseif kind == 'w' and not has(live, attempt) then
            if refuses(live, gone, attempt, most_attempts) then
                answer = 'withdrawn'
            else
                redis.call('HSET', states, id, waits(with(live, attempt), gone))
            end
        end
    elseif kind and refuses(live, gone, attempt, most_attempts) then
        answer = 'withdrawn'
    elseif waiting >= most then
        answer = 'full'
    else
        opened[id], waiting = stored, waiting + 1
        bodies[#bodies + 1], bodies[#bodies + 2] = id, stored
        marks[#marks + 1], marks[#marks + 2] = id, waits(attempt, gone)
        dues[#dues + 1], dues[#dues + 2] = ends, id
        if kind then again[#again + 1] = id end
    end
    if answer then
        answers[#answers + 1] = place
        answers[#answers + 1] = answer
    end
    from, place = last + 1, place + 1
end
if #bodies > 0 then
    redis.call('HSET', decisions, unpack(bodies))
    redis.call('HSET', states, unpack(marks))
    redis.call('ZADD', due, unpack(dues))
end
for _, id in ipairs(again) do redis.call('ZREM', kept, id) end
return answers
"""
)
"""The decisions come as one text, a line each: an argument of its own for each takes the client
longer than all the rest. JSON holds no line break. They are written together: calls for each
would take most of the store's time. Lua hands over some 3,900 at most.

Answers of those that do not simply wait from now on: place, answer, place, …
"""

WITHDRAW: Final = (
    _HEAD
    + _ATTEMPTS
    + """
redis.call('ZREM', due, '')
for i = 3, #ARGV, 2 do
    local id, attempt = ARGV[i], ARGV[i + 1]
    local state = redis.call('HGET', states, id) or 'x '
    local kind = string.sub(state, 1, 1)
    if kind == 'w' or kind == 'x' then
        local live, gone = attempts(state)
        live = without(live, attempt)
        if not refuses(live, gone, attempt, tonumber(ARGV[2])) then gone = with(gone, attempt) end
        if live ~= '' then
            redis.call('HSET', states, id, waits(live, gone))
        else
            redis.call('ZREM', due, id)
            redis.call('HDEL', decisions, id)
            redis.call('HSET', states, id, 'x ' .. gone)
            redis.call('ZADD', kept, ms(now + ARGV[1]), id)
        end
    end
end
"""
)

CLICK: Final = (
    _HEAD
    + """
local id, product = ARGV[2], tonumber(ARGV[3])
local stored = redis.call('HGET', decisions, id)
if not stored then return {'unknown'} end
local readable, rank = pcall(function()
    for i, item in ipairs(cjson.decode(stored).decision.slate) do
        if item.product_id == product then return i end
    end
end)
local state = redis.call('HGET', states, id)
if readable and not rank then return {'not-on-slate'} end
if not (readable and state) then return {'unreadable', stored, state} end
if string.sub(state, 1, 1) == 'w' then
    local ends = redis.call('ZSCORE', due, id)
    if not ends then return {'unreadable', stored, state} end
    if tonumber(ends) > now then
        state = 'c ' .. rank .. ' ' .. ms(now) .. ' ' .. ARGV[4] .. ' 0'
        redis.call('ZREM', due, id)
        redis.call('HSET', states, id, state)
        redis.call('ZADD', outbox, ms(now + ARGV[1]), id)
        return {'counted', stored, state}
    end
    expire(id, ms(ends))
    state = redis.call('HGET', states, id)
end
local answer = 'late'
if string.sub(state, 1, 1) == 'c' then
    answer = string.match(state, '^c (%d+) ') == tostring(rank) and 'again' or 'other'
end
return {answer, stored, state}
"""
)

TAKE: Final = (
    _HEAD
    + """
local limit, most = tonumber(ARGV[2]), tonumber(ARGV[3])
local ended = redis.call('ZRANGEBYSCORE', due, '-inf', ms(now), 'WITHSCORES', 'LIMIT', 0, limit)
for i = 1, #ended, 2 do expire(ended[i], ms(ended[i + 1])) end
local excess = math.min(redis.call('ZCARD', kept) - most, limit)
local function forget(ids)
    for _, id in ipairs(ids) do
        redis.call('ZREM', kept, id)
        redis.call('HDEL', decisions, id)
        redis.call('HDEL', states, id)
    end
end
local excessive = excess > 0 and redis.call('ZRANGE', kept, 0, excess - 1) or {}
forget(redis.call('ZRANGEBYSCORE', kept, '-inf', ms(now), 'LIMIT', 0, limit))
forget(excessive)
local answers = {}
local taken = redis.call('ZRANGEBYSCORE', outbox, '-inf', ms(now), 'LIMIT', 0, limit)
if #taken > 0 then redis.call('ZREM', outbox, '') end
for _, id in ipairs(taken) do
    redis.call('ZADD', outbox, ms(now + ARGV[1]), id)
    answers[#answers + 1] = id
    answers[#answers + 1] = redis.call('HGET', decisions, id)
    answers[#answers + 1] = redis.call('HGET', states, id)
end
return answers
"""
)

_LEAVES: Final = """
local function leaves(id)
    if redis.call('ZREM', outbox, id) == 0 then return false end
    redis.call('ZADD', kept, ms(now + ARGV[1]), id)
    return true
end
"""
"""Out of the outbox; kept for a while to answer repeats."""

ACKNOWLEDGE: Final = (
    _HEAD
    + _LEAVES
    + """
local left = {}
for i = 2, #ARGV do
    local id = ARGV[i]
    if leaves(id) then
        local state = redis.call('HGET', states, id)
        redis.call('HSET', states, id, string.sub(state, 1, -2) .. '1')
        left[#left + 1] = id
    end
end
return left
"""
)

PUT_ASIDE: Final = _HEAD + _LEAVES + "for i = 2, #ARGV do leaves(ARGV[i]) end\n"

FIND: Final = """
local decisions, states, due = KEYS[1], KEYS[2], KEYS[3]
local stored = redis.call('HGET', decisions, ARGV[1])
if not stored then return {} end
return {stored, redis.call('HGET', states, ARGV[1]), redis.call('ZSCORE', due, ARGV[1])}
"""
