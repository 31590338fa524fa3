-- Loss and rate over sizes and offered loads.
local common = dofile(os.getenv("VSWITCH_PKTGEN") .. "/common.lua")

common.prepare()
common.line("size", "rate %", "sent", "received", "lost %", "received/s")
for _, size in ipairs(common.sizes) do
	pktgen.set("all", "size", size)
	for _, rate in ipairs(common.rates) do
		common.line(size, rate, common.figures(common.measure(rate, common.seconds)))
	end
end
common.finish()
