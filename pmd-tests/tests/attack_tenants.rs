//! x
use pmd_tests::frames::{mac, udp4};
use pmd_tests::isolate::isolated;
use pmd_tests::rig::Rig;
use pmd_tests::setup::{Setup, VhostPort};

#[test]
fn probe() {
    isolated("probe", || {
        let mut setup = Setup::new();
        setup.vns[0].list_ips = true;
        setup.vns[0].ports.clear();
        setup.vns[0].tenants = vec![
            VhostPort {
                name: "vm-1",
                tenant: 1,
                bum_rate: 100_000,
            },
            VhostPort {
                name: "vm-3",
                tenant: 3,
                bum_rate: 100_000,
            },
        ];
        let mut rig = Rig::start(setup);
        for len in [60, 0, 1, 10, 13, 14, 20, 60, 3000, 60000] {
            let mut frame = udp4(1, 3, 0, len.max(60));
            frame.truncate(len);
            rig.from_tenant("vm-1", &[frame]);
            std::thread::sleep(std::time::Duration::from_millis(50));
            println!("{len}: {:?}", rig.status().workers[0].verdicts);
        }
        let _ = mac(1);
    });
}
