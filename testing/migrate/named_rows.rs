//! How many rows and changes a run names, to people and to programs.

use anyhow::Result;

use crate::reports::{kinds, report};
use crate::scene::{NO_FILES, Scene};

/// More of them than a person reads.
#[test]
fn many_changes_are_named_on_request() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.local("to")?);
    let many = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 50) \
         INSERT INTO uploads (id) SELECT 'many' || n FROM n";
    from.database.query(many)?;
    scene.migrate(&from, &to, &[])?.expect(0)?;
    for (option, named) in [("--json", 0), ("--sync", 20), ("-v", 50)] {
        from.database.query(&format!(
            "UPDATE uploads SET comments = '{option}' WHERE id LIKE 'many%'"
        ))?;
        let options: &[&str] = match option {
            "--sync" => &["--sync"],
            option => &["--sync", option],
        };
        let run = scene.migrate(&from, &to, options)?.expect(0)?;
        let lines = run.stderr.lines();
        let updated = lines.filter(|line| line.starts_with("updated: uploads many"));
        assert_eq!(updated.count(), named, "{run}");
        assert_eq!(run.stderr.contains("-v names all"), named == 20, "{run}");
    }
    Ok(())
}

/// A target that others have worked on for long.
#[test]
fn many_conflicts_and_rows_of_the_target_are_named_on_request() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.local("to")?);
    let many = |name: &str| {
        format!(
            "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 50) \
             INSERT INTO uploads (id) SELECT '{name}' || n FROM n"
        )
    };
    from.database.query(&many("both"))?;
    scene.migrate(&from, &to, &[])?.expect(0)?;
    to.database.query(&many("mine"))?;
    to.database
        .query("UPDATE uploads SET comments = 'mine' WHERE id LIKE 'both%'")?;
    let capped = [
        "the first 20 rows in conflict are named above; -v names all",
        "the first 20 rows that only the target has are named above; -v names all",
    ];
    for (options, named) in [
        (&[][..], 20),
        (&["-v"], 50),
        (&["--dry-run"], 20),
        (&["--dry-run", "-v"], 50),
    ] {
        let run = scene.migrate(&from, &to, options)?.expect(20)?;
        let said = |start: &str| {
            let lines = run.stdout.lines().chain(run.stderr.lines());
            lines.filter(|line| line.starts_with(start)).count()
        };
        let (conflict, extra) = match options.contains(&"--dry-run") {
            true => ("conflict  uploads both", "extra     uploads mine"),
            false => ("conflict: uploads both", "extra: uploads mine"),
        };
        assert_eq!(said(conflict), named, "{run}");
        assert_eq!(said(extra), named, "{run}");
        for line in capped {
            assert_eq!(said(line), usize::from(named == 20), "{run}");
        }
    }
    Ok(())
}

#[test]
fn a_verification_names_more_differences_to_programs_than_to_people() -> Result<()> {
    let scene = Scene::new()?;
    let (from, to) = (scene.made_up("from", NO_FILES)?, scene.local("to")?);
    scene.migrate(&from, &to, &[])?.expect(0)?;
    // More than are looked at again.
    from.database.query(
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1200) \
         INSERT INTO uploads (id) SELECT 'new' || n FROM n",
    )?;
    let options = ["--metadata-only", "--report", "report.json"];
    scene
        .verify(&from, &to, &options)?
        .expect(21)?
        .says(&["1,200 missing", "and 1,100 more"])?;
    assert_eq!(kinds(&report(&scene)?), ["missing"; 1200]);
    Ok(())
}
