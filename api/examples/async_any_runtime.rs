//! The file cache of the cache document, without a runtime: an executor of thirty lines runs the tasks. So does any
//! other.

use std::{
    collections::VecDeque,
    fs,
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Wake, Waker},
};

use tierce::{AsyncCache, AsyncStore, BoxError};

type Task = Pin<Box<dyn Future<Output = Result<(), BoxError>>>>;

/// The numbers of the tasks that have something to do.
#[derive(Default)]
struct Ready {
    tasks: Mutex<VecDeque<usize>>,
    came: Condvar,
}

impl Ready {
    fn tasks(&self) -> MutexGuard<'_, VecDeque<usize>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct WakeTask(usize, Arc<Ready>);

impl Wake for WakeTask {
    fn wake(self: Arc<Self>) {
        self.1.tasks().push_back(self.0);
        self.1.came.notify_one();
    }
}

/// Runs all tasks on this thread.
fn run(tasks: Vec<Task>) -> Result<(), BoxError> {
    let ready = Arc::new(Ready::default());
    ready.tasks().extend(0..tasks.len());
    let mut left: Vec<_> = tasks.into_iter().map(Some).collect();
    while left.iter().any(Option::is_some) {
        let has_none = |ready: &mut VecDeque<usize>| ready.is_empty();
        let waited = ready.came.wait_while(ready.tasks(), has_none);
        let next = waited.unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some((number, slot)) = next.and_then(|at| Some((at, left.get_mut(at)?))) else {
            continue;
        };
        let waker = Waker::from(Arc::new(WakeTask(number, Arc::clone(&ready))));
        if let Some(task) = slot
            && let std::task::Poll::Ready(ended) =
                task.as_mut().poll(&mut Context::from_waker(&waker))
        {
            *slot = None;
            ended?;
        }
    }
    Ok(())
}

async fn read_file_cached(
    path: std::path::PathBuf,
    files: AsyncCache<String, String>,
) -> Result<String, BoxError> {
    let key = format!("file_content:{}", path.display());
    let content = files.try_get_or_insert_with(&key, async { fs::read_to_string(&path) }).await?;
    Ok(content)
}

fn main() -> Result<(), BoxError> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("notes.txt");
    fs::write(&file, "remember the milk")?;
    let store = directory.path().join("cache");
    run(vec![Box::pin(async move {
        let store = AsyncStore::open(store).await?;
        let files = store.cache("files").await?;
        assert_eq!(read_file_cached(file.clone(), files.clone()).await?, "remember the milk");
        fs::write(&file, "another text")?;
        let cached = read_file_cached(file, files.clone()).await?;
        assert_eq!(cached, "remember the milk", "the file was not read again");
        let stats = files.stats().await?;
        assert_eq!((stats.hits, stats.misses, stats.loads), (1, 1, 1));
        drop(files);
        store.close().await?;
        Ok(())
    })])
}
