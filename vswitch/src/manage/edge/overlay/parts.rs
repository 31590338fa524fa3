//! Parts of what the authority says that can be left out by themselves: a word that is wrong about one
//! edge or network must not stop what it says of the others.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use vswitch_vn::Tables;

use super::wanted::Wanted;
use crate::manage::change::Refused;
use crate::manage::config::Config;
use crate::manage::edge::plan::{Ids, Plan};
use crate::manage::edge::steps::{Numbered, Steps};

/// An edge or a network that the authority describes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// Another edge.
    Peer(String),
    /// A network.
    Vn(String),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Peer(name) => write!(f, "peer {name}"),
            Part::Vn(name) => write!(f, "network {name}"),
        }
    }
}

/// Why parts are left out.
pub(super) type LeftOut = BTreeMap<Part, String>;

/// What runs.
#[derive(Clone, Copy)]
pub(super) struct Now<'a> {
    pub config: &'a Config,
    pub plan: &'a Plan,
    pub resting: &'a Ids,
    pub tables: &'a Tables,
    pub generation: u64,
}

impl Now<'_> {
    /// What leads from here to a configuration; an error if the tables would not have it.
    pub(super) fn steps_to(&self, config: &Config) -> Result<(Plan, Steps), Refused> {
        let plan = self.plan.next(self.config, config, self.resting)?;
        let old = Numbered {
            config: self.config,
            plan: self.plan,
        };
        let new = Numbered {
            config,
            plan: &plan,
        };
        let steps = Steps::between(old, new, self.generation + 1);
        self.tables.validate(&steps.tables)?;
        Ok((plan, steps))
    }
}

impl Wanted {
    /// Makes of the authority's word what can be carried out: all of it, or else as much as can, and
    /// then `behind` is set. An error if not even what runs without it can.
    pub(super) fn settle(
        &mut self,
        local: &Config,
        now: Now<'_>,
    ) -> Result<(Config, Plan, Steps), Refused> {
        self.refused.clear();
        let (whole, left_out) = self.adapt_without(local, &BTreeSet::new());
        let error = match now.steps_to(&whole) {
            Ok((plan, steps)) => {
                self.behind = false;
                self.tell(left_out);
                return Ok((whole, plan, steps));
            }
            Err(error) => error,
        };
        self.behind = true;
        let without = self.impossible(|without| {
            let (config, _) = self.adapt_without(local, without);
            now.steps_to(&config).is_ok()
        });
        let (config, mut left_out) = self.adapt_without(local, &without);
        let why = format!("with it, what the authority says cannot be carried out: {error}");
        self.refused = without.into_iter().map(|p| (p, why.clone())).collect();
        left_out.extend(self.refused.clone());
        let (plan, steps) = now.steps_to(&config)?;
        self.tell(left_out);
        Ok((config, plan, steps))
    }

    /// The parts that cannot be had, found by halves. `possible`: whether all but some can.
    fn impossible(&self, possible: impl Fn(&BTreeSet<Part>) -> bool) -> BTreeSet<Part> {
        let all = self.parts();
        let mut without: BTreeSet<Part> = all.iter().cloned().collect();
        let mut waiting = vec![&*all];
        while let Some(parts) = waiting.pop() {
            for part in parts {
                without.remove(part);
            }
            if possible(&without) {
                continue;
            }
            without.extend(parts.iter().cloned());
            if parts.len() > 1 {
                let (first, second) = parts.split_at(parts.len() / 2);
                waiting.extend([second, first]);
            }
        }
        without
    }

    /// Says once of each part that is left out why it is.
    fn tell(&mut self, left_out: LeftOut) {
        for (part, why) in &left_out {
            if self.told.get(part) != Some(why) {
                tracing::error!(%part, why, "what the authority says of it is left out");
            }
        }
        self.told = left_out;
    }
}
