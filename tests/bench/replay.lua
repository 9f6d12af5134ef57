-- Sends requests that were made beforehand: of a file, each after the number of its bytes in a line.
-- Once they have all been sent the last is repeated, which is told: `beyond` should be 0.

local requests, sent = {}, 0
local threads = {}

function setup(thread)
   table.insert(threads, thread)
end

function init(arguments)
   local file = assert(io.open(arguments[1], "rb"))
   while true do
      local size = file:read("*n")
      if not size then break end
      file:read(1)
      table.insert(requests, file:read(size))
   end
   file:close()
   refused = 0
   beyond = 0
end

function request()
   sent = sent + 1
   if sent > #requests then
      beyond = beyond + 1
      return requests[#requests]
   end
   return requests[sent]
end

function response(status)
   if status < 200 or status > 299 then refused = refused + 1 end
end

function done(summary, latency)
   local figures = '{"per_s": %f, "answered": %d, "refused": %d, "beyond": %d}'
   local missed, over = 0, 0
   for _, thread in ipairs(threads) do
      missed = missed + thread:get("refused")
      over = over + thread:get("beyond")
   end
   local seconds = summary.duration / 1e6
   io.stderr:write(figures:format(summary.requests / seconds, summary.requests, missed, over))
end
