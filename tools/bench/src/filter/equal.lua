-- Counts what meshmeter's HTTP filter counts: starts, ends by class of status, requests in flight
-- and their integral over time. Lua's clock has milliseconds, and a request that ends without a
-- response is not seen to end. A response 418 tells the totals.
local started, ended, in_flight, integral, advanced = 0, {}, 0, 0, 0

local function advance(handle)
  local now = handle:timestamp()
  integral = integral + in_flight * (now - advanced)
  advanced = now
end

function envoy_on_request(handle)
  started = started + 1
  advance(handle)
  in_flight = in_flight + 1
end

function envoy_on_response(handle)
  advance(handle)
  in_flight = in_flight - 1
  local headers = handle:headers()
  local status = headers:get(":status")
  local class = string.sub(status, 1, 1)
  ended[class] = (ended[class] or 0) + 1
  if status == "418" then
    local function of(class) return ended[class] or 0 end
    headers:add("totals", string.format("%d %d %d %d", started, of("2"), of("4"), of("5")))
  end
end
