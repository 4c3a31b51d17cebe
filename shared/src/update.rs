//! stub
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("x")]
pub struct ScanError;
pub struct Id {
    pub client: u64,
    pub clock: u32,
}
pub struct Block {
    pub id: Id,
    pub len: u32,
}
pub struct Del {
    pub client: u64,
    pub start: u32,
    pub len: u32,
}
pub struct Scan<'a> {
    pub blocks: Vec<Block>,
    pub deletes: Vec<Del>,
    pub p: std::marker::PhantomData<&'a ()>,
    e: bool,
}
impl Scan<'_> {
    pub fn is_empty(&self) -> bool {
        self.e
    }
}
pub fn scan(u: &[u8]) -> Result<Scan<'_>, ScanError> {
    use yrs::updates::decoder::Decode;
    let up = yrs::Update::decode_v1(u).map_err(|_| ScanError)?;
    let mut blocks = vec![];
    for (c, r) in up.insertions(true).iter() {
        for x in r.iter() {
            blocks.push(Block {
                id: Id {
                    client: c.get(),
                    clock: x.start as u32,
                },
                len: (x.end - x.start) as u32,
            })
        }
    }
    Ok(Scan {
        e: u == [0, 0],
        blocks,
        deletes: vec![],
        p: Default::default(),
    })
}
pub fn scan_state_vector(_: &[u8]) -> Result<(), ScanError> {
    Ok(())
}
