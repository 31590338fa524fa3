-- The highest rate without loss for each size, by bisection (RFC 2544, section 26.1).
local common = dofile(os.getenv("VSWITCH_PKTGEN") .. "/common.lua")

-- As near as this, in percent of the line rate.
local RESOLUTION = 0.5

common.prepare()
common.line("size", "rate %", "sent", "received", "lost %", "received/s")
for _, size in ipairs(common.sizes) do
	pktgen.set("all", "size", size)
	local low, high = 0, 100
	local best, rate = nil, 100
	while high - low > RESOLUTION do
		local found = common.measure(rate, common.seconds)
		if found.loss <= common.tolerance then
			low, best = rate, { rate, found }
			if rate == 100 then break end
		else
			high = rate
		end
		rate = (low + high) / 2
	end
	if best then
		common.line(size, string.format("%.2f", best[1]), common.figures(best[2]))
	else
		common.line(size, "-", 0, 0, "-", 0)
	end
end
common.finish()
