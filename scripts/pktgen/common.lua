-- What the load tests have in common: their settings, one measurement, and the output.
--
-- Settings come from the environment, so that a script is the same on every machine; the
-- README has all of them. Pktgen's Lua has no path of its own, so scripts load this file from
-- VSWITCH_PKTGEN, which `run` sets.

local common = {}

local function number(name, default)
	local text = os.getenv(name)
	if text == nil or text == "" then return default end
	local value = tonumber(text)
	if value == nil then error(name .. " is not a number: " .. text) end
	return value
end

local function list(name, default)
	local text = os.getenv(name)
	if text == nil or text == "" then return default end
	local values = {}
	for word in text:gmatch("[^, ]+") do
		local value = tonumber(word)
		if value == nil then error(name .. " is not a list of numbers: " .. text) end
		values[#values + 1] = value
	end
	return values
end

-- Frames with FCS, as Pktgen counts: 64 B are 60 B on vswitch's books.
common.sizes = list("SIZES", { 64, 512, 1400 })
-- Shares of the line rate in percent.
common.rates = list("RATES", { 10, 50, 100 })
common.seconds = number("DURATION", 10)
-- The ports that send and receive; one direction, or both at once.
common.from = tostring(number("FROM", 0))
common.to = tostring(number("TO", 1))
common.both = number("BOTH", 0) ~= 0
-- The two tenants, as the configurations of the edges have them.
common.mac = { os.getenv("MAC_FROM") or "52:54:00:00:00:01", os.getenv("MAC_TO") or "52:54:00:00:00:02" }
common.ip = { os.getenv("IP_FROM") or "10.0.0.1", os.getenv("IP_TO") or "10.0.0.2" }
-- 0: frames go untagged, as from a guest.
common.vlan = number("VLAN", 0)
-- Further VLANs (and so VNs) behind the first, in turn.
common.vlans = number("VLANS", 1)
common.flows = list("FLOWS", { 1, 256, 65536 })
-- Loss that still counts as none, in percent; RFC 2544 has 0, a shared machine has not.
common.tolerance = number("TOLERANCE", 0)
local file = os.getenv("OUT")
local out = file and assert(io.open(file, "a")) or nil

-- A line of the result, as comma-separated values: on the screen and in OUT.
function common.line(...)
	local text = table.concat({ ... }, ",")
	print("RESULT " .. text)
	if out then
		out:write(text, "\n")
		out:flush()
	end
end

local function ports()
	if common.both then return common.from .. "," .. common.to end
	return common.from
end

local function one(port, own, other)
	pktgen.stop(port)
	pktgen.set_range(port, "off")
	pktgen.latency(port, "disable")
	pktgen.set(port, "count", 0)
	pktgen.set(port, "burst", 32)
	pktgen.set(port, "sport", 4000)
	pktgen.set(port, "dport", 5000)
	pktgen.set_type(port, "ipv4")
	pktgen.set_proto(port, "udp")
	pktgen.set_mac(port, "src", common.mac[own])
	pktgen.set_mac(port, "dst", common.mac[other])
	pktgen.set_ipaddr(port, "src", common.ip[own] .. "/24")
	pktgen.set_ipaddr(port, "dst", common.ip[other])
	if common.vlan > 0 then
		pktgen.vlanid(port, common.vlan)
		pktgen.vlan(port, "on")
	end
end

-- Brings both ports into a known state.
function common.prepare()
	pktgen.screen("off")
	one(common.from, 1, 2)
	one(common.to, 2, 1)
	pktgen.delay(500)
end

-- Many flows, and with VLANS many networks, on a port. UDP ports count first; beyond 65536
-- flows the source port counts as well.
function common.range(port, own, other, flows, size)
	local mac, ip = common.mac, common.ip
	local last = math.min(flows, 60000) - 1
	local more = math.max(1, math.ceil(flows / 60000)) - 1
	pktgen.range.dst_mac(port, "start", mac[other])
	pktgen.range.src_mac(port, "start", mac[own])
	for _, edge in ipairs({ "start", "min", "max" }) do
		pktgen.range.src_ip(port, edge, ip[own])
		pktgen.range.dst_ip(port, edge, ip[other])
	end
	pktgen.range.src_ip(port, "inc", "0.0.0.0")
	pktgen.range.dst_ip(port, "inc", "0.0.0.0")
	pktgen.range.ip_proto(port, "udp")
	local function counted(set, start, extent)
		set(port, "start", start)
		set(port, "inc", extent > 0 and 1 or 0)
		set(port, "min", start)
		set(port, "max", start + extent)
	end
	counted(pktgen.range.dst_port, 5000, last)
	counted(pktgen.range.src_port, 4000, more)
	counted(pktgen.range.pkt_size, size, 0)
	if common.vlan > 0 then counted(pktgen.range.vlan_id, common.vlan, common.vlans - 1) end
	pktgen.set_range(port, "on")
end

local function totals(port)
	local stats = pktgen.portStats(port, "port")[tonumber(port)]
	return { rx = stats.ipackets, tx = stats.opackets }
end

-- The counters of both ports once they stand still. Pktgen reads the cards once a second, or
-- later where its threads share a core; `since` are counters that must have moved first.
local function settled(since)
	local last, still = nil, 0
	for _ = 1, 20 do
		pktgen.delay(1200)
		local now = { totals(common.from), totals(common.to) }
		local moved = since == nil or now[1].tx ~= since[1].tx or now[2].tx ~= since[2].tx
		local same = last and now[1].tx == last[1].tx and now[1].rx == last[1].rx
			and now[2].tx == last[2].tx and now[2].rx == last[2].rx
		still = (same and moved) and still + 1 or 0
		if still == 2 then return now end
		last = now
	end
	return last
end

-- Sends at `rate` percent of the line rate and returns what was sent and received, in
-- packets, and how long it took, in seconds.
function common.measure(rate, seconds)
	pktgen.set(ports(), "rate", rate)
	local before = settled(nil)
	pktgen.start(ports())
	pktgen.delay(math.floor(seconds * 1000))
	pktgen.stop(ports())
	local after = settled(before)
	local sent = after[1].tx - before[1].tx
	local received = after[2].rx - before[2].rx
	if common.both then
		sent = sent + after[2].tx - before[2].tx
		received = received + after[1].rx - before[1].rx
	end
	local loss = sent > 0 and math.max(0, (sent - received) * 100 / sent) or 0
	return { sent = sent, received = received, loss = loss, seconds = seconds }
end

-- The figures of a measurement, for a line.
function common.figures(found)
	return found.sent, found.received, string.format("%.4f", found.loss),
		string.format("%.0f", found.received / found.seconds)
end

-- Ends Pktgen; its screen must not hide the last line.
function common.finish()
	if out then out:close() end
	pktgen.quit()
end

return common
