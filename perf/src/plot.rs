//! Figures as pictures: lines over a logarithmic axis, in SVG.

use std::path::Path;

use anyhow::{Context, anyhow};
use plotters::prelude::*;

/// A line of a plot.
#[derive(Debug, Clone)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Places in ascending order of the first.
    pub points: Vec<(f64, f64)>,
}

/// What is drawn, and what stands beside it.
#[derive(Debug, Clone)]
pub struct Plot<'a> {
    /// Above it.
    pub title: &'a str,
    /// In small letters beneath the title: where the figures come from.
    pub machine: &'a str,
    /// Along the logarithmic axis.
    pub x: &'a str,
    /// Along the other, which begins at zero.
    pub y: &'a str,
}

impl Plot<'_> {
    /// Draws into `file`.
    pub fn draw(&self, file: &Path, series: &[Series]) -> anyhow::Result<()> {
        let all = || series.iter().flat_map(|s| &s.points);
        let least = all()
            .map(|p| p.0)
            .min_by(f64::total_cmp)
            .context("nothing to draw")?;
        let most = all()
            .map(|p| p.0)
            .max_by(f64::total_cmp)
            .context("nothing to draw")?;
        let top = all().map(|p| p.1).max_by(f64::total_cmp).unwrap_or(1.0) * 1.1;
        let failed = |error: &dyn std::fmt::Display| anyhow!("{}: {error}", file.display());
        let root = SVGBackend::new(file, (860, 520)).into_drawing_area();
        root.fill(&WHITE).map_err(|e| failed(&e))?;
        let root = root
            .titled(self.title, ("sans-serif", 20))
            .map_err(|e| failed(&e))?;
        let root = root
            .titled(self.machine, ("sans-serif", 10))
            .map_err(|e| failed(&e))?;
        let mut chart = ChartBuilder::on(&root)
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(72)
            .build_cartesian_2d((least * 0.9..most * 1.1).log_scale(), 0.0..top)
            .map_err(|e| failed(&e))?;
        chart
            .configure_mesh()
            .x_desc(self.x)
            .y_desc(self.y)
            .x_label_formatter(&|x| format!("{x:.0}"))
            .draw()
            .map_err(|e| failed(&e))?;
        for (i, line) in series.iter().enumerate() {
            let colour = Palette99::pick(i).to_rgba();
            chart
                .draw_series(LineSeries::new(line.points.iter().copied(), colour).point_size(3))
                .map_err(|e| failed(&e))?
                .label(&line.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
        }
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .position(SeriesLabelPosition::UpperLeft)
            .draw()
            .map_err(|e| failed(&e))?;
        root.present().map_err(|e| failed(&e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_its_words_and_lines() {
        let dir = std::env::temp_dir().join(format!("vswitch-plot-{}", std::process::id()));
        let series = [Series {
            name: "lookup".into(),
            points: vec![(1e3, 5.0), (1e6, 50.0)],
        }];
        let plot = Plot {
            title: "Lookups",
            machine: "some CPU",
            x: "entries",
            y: "ns",
        };
        plot.draw(&dir, &series).expect("drawn");
        let text = std::fs::read_to_string(&dir).expect("a file");
        std::fs::remove_file(&dir).expect("gone");
        for part in [
            "<svg", "Lookups", "some CPU", "entries", "lookup", "polyline",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(plot.draw(&dir, &[]).is_err());
    }
}
