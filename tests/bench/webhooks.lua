-- Webhooks for wrk, each with a call id of its own: arguments are the bearer token and "ordered" or "random".
-- Ids grow with time, as those of most exchanges do, or have nothing to do with each other.

local number, seed, token, random = 0, os.time(), nil, false
local content = '{"event":"call.ended","call_id":"%s","direction":"inbound","phone":"+1555%07d","extension":"101",'
    .. '"started_at":1790000000,"duration":42,"status":"answered","padding":"' .. string.rep("x", 120) .. '"}'

function init(arguments)
    token, random = arguments[1], arguments[2] == "random"
    math.randomseed(seed)
    seed = seed .. "-" .. math.random(0, 2 ^ 30)
end

function request()
    number = number + 1
    local id = string.format("%s-%09d", seed, number)
    if random then
        id = string.format("%08x-%s", math.random(0, 2 ^ 32 - 1), id)
    end
    local headers = { ["Authorization"] = "Bearer " .. token, ["Content-Type"] = "application/json" }
    return wrk.format("POST", nil, headers, string.format(content, id, number % 10000000))
end

function done(summary, latency)
    local errors = summary.errors
    io.stderr:write(string.format(
        '{"per_s": %f, "answered": %d, "refused": %d}',
        summary.requests / (summary.duration / 1e6), summary.requests,
        errors.status + errors.connect + errors.read + errors.write + errors.timeout
    ))
end
