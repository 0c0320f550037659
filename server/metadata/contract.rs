//! What both engines promise: every test here runs on SQLite and on PostgreSQL.

mod adoption;
mod counters;
mod paging;
mod place;
mod repository;
mod writes;

/// Makes of each promise a test per engine.
macro_rules! promises {
    ($($promise:ident),* $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $promise() {
                    super::$promise(&crate::metadata::contract::place::Place::sqlite()).await;
                }
            )*
        }

        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread")]
                #[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
                async fn $promise() {
                    let place = crate::metadata::contract::place::Place::postgres().await;
                    super::$promise(&place).await;
                }
            )*
        }
    };
}
use promises;
