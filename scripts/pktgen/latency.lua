-- Latency from one port to the other and its jitter, over sizes and offered loads. Pktgen
-- stamps packets itself, so both ports must be of one machine; its own queues are included.
local common = dofile(os.getenv("VSWITCH_PKTGEN") .. "/common.lua")

common.prepare()
common.line("size", "rate %", "sent", "received", "lost %", "received/s", "min us", "avg us", "max us")
for _, size in ipairs(common.sizes) do
	-- The stamp needs room behind the headers.
	pktgen.set("all", "size", math.max(size, 96))
	for _, rate in ipairs(common.rates) do
		pktgen.latency("all", "enable")
		local found = common.measure(rate, common.seconds)
		local latency = pktgen.pktStats(common.to)[tonumber(common.to)].latency
		pktgen.latency("all", "disable")
		local sent, received, loss, speed = common.figures(found)
		-- Pktgen 23.03 forms the mean only while its screen is on.
		local mean = latency.avg_us > 0 and string.format("%.1f", latency.avg_us) or "-"
		common.line(math.max(size, 96), rate, sent, received, loss, speed,
			string.format("%.1f", latency.min_us), mean, string.format("%.1f", latency.max_us))
	end
end
common.finish()
