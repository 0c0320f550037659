//! Every link of the manual leads to a file, and to a heading in it, that exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

#[test]
fn every_link_leads_somewhere() -> Result<()> {
    let pages = pages()?;
    ensure!(pages.len() > 3, "only {} pages were found", pages.len());
    let mut broken = Vec::new();
    for page in &pages {
        let text = fs::read_to_string(page)?;
        for link in links(&text) {
            if let Err(error) = follow(page, link) {
                broken.push(format!("{}: {link}: {error}", page.display()));
            }
        }
    }
    ensure!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
    Ok(())
}

#[test]
fn every_page_of_the_manual_is_in_its_summary() -> Result<()> {
    let docs = project().join("docs");
    let summary = fs::read_to_string(docs.join("SUMMARY.md"))?;
    let listed: BTreeSet<_> = links(&summary).map(|link| docs.join(link)).collect();
    let missing: Vec<_> = pages()?
        .into_iter()
        .filter(|page| page.starts_with(&docs) && !page.ends_with("SUMMARY.md"))
        .filter(|page| !listed.contains(page))
        .collect();
    ensure!(missing.is_empty(), "not in docs/SUMMARY.md: {missing:?}");
    Ok(())
}

#[test]
fn a_link_to_nowhere_is_found() {
    let page = project().join("README.md");
    for link in ["no-such-file.md", "AGENTS.md#no-such-heading", "#no-such"] {
        assert!(follow(&page, link).is_err(), "{link}");
    }
    let text = "a [link](one.md), `[code](no.md)`\n```\n[block](no.md)\n```\n[next](two.md#x)";
    assert_eq!(links(text).collect::<Vec<_>>(), ["one.md", "two.md#x"]);
    assert_eq!(anchor("From `SQLite`, to S3"), "from-sqlite-to-s3");
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Markdown files of the project's top level and of `docs/`.
fn pages() -> Result<Vec<PathBuf>> {
    let mut pages = Vec::new();
    collect(project(), false, &mut pages)?;
    collect(&project().join("docs"), true, &mut pages)?;
    Ok(pages)
}

fn collect(directory: &Path, deep: bool, pages: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            if deep {
                collect(&path, deep, pages)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    Ok(())
}

/// Targets of `[text](target)` outside code, those on other hosts excepted.
fn links(text: &str) -> impl Iterator<Item = &str> {
    prose(text)
        .flat_map(|line| line.split('`').step_by(2))
        .flat_map(|piece| piece.split("](").skip(1))
        .filter_map(|rest| rest.split([')', ' ']).next())
        .filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
}

/// The lines that are not in a fenced block.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

fn follow(page: &Path, link: &str) -> Result<()> {
    let (path, heading) = link.split_once('#').unwrap_or((link, ""));
    let target = match path {
        "" => page.to_owned(),
        path => page.with_file_name("").join(path),
    };
    ensure!(target.exists(), "no such file");
    if heading.is_empty() {
        return Ok(());
    }
    let text = fs::read_to_string(&target).context("has no headings")?;
    let found = prose(&text)
        .filter_map(|line| line.strip_prefix('#'))
        .any(|title| anchor(title.trim_start_matches('#').trim()) == heading);
    ensure!(found, "no such heading");
    Ok(())
}

/// The name that a heading's link has, as mdBook and code hosts make it.
fn anchor(title: &str) -> String {
    title
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}
