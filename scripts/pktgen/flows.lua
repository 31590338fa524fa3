-- Loss and rate over numbers of flows; with VLANS over as many networks, a VLAN each.
local common = dofile(os.getenv("VSWITCH_PKTGEN") .. "/common.lua")

common.prepare()
common.line("vlans", "flows", "size", "rate %", "sent", "received", "lost %", "received/s")
for _, flows in ipairs(common.flows) do
	for _, size in ipairs(common.sizes) do
		common.range(common.from, 1, 2, flows, size)
		if common.both then common.range(common.to, 2, 1, flows, size) end
		for _, rate in ipairs(common.rates) do
			local found = common.measure(rate, common.seconds)
			common.line(common.vlans, flows, size, rate, common.figures(found))
		end
	end
end
common.finish()
