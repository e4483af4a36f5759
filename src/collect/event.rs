//! stub
pub struct Shaper{p:Vec<u8>}
pub struct Shaped{id:Option<Vec<u8>>}
impl Shaped { pub fn id(&self)->Option<&[u8]>{self.id.as_deref()} pub fn record_number(&self)->Option<&[u8]>{None} pub fn passes(&self)->bool{true} pub fn is_reshaped(&self)->bool{false}}
impl Shaper { pub fn new(_:&crate::config::Wazuh,_:&crate::config::Tenant,ct:crate::config::ContentType,_:bool)->Self{Self{p:format!(r#"1:office365:{{"integration":"office365","office365":{{"Subscription":"{ct}","#).into_bytes()}}
pub fn shape(&mut self, r:&[u8], _b:bool, out:&mut Vec<u8>)->Result<Shaped,()>{ let v:serde_json::Value=serde_json::from_slice(r).map_err(|_|())?; let id=v.get("Id").and_then(|v|v.as_str()).map(|s|s.as_bytes().to_vec()); out.extend_from_slice(&self.p); out.extend_from_slice(&r[1..]); out.push(b'}'); Ok(Shaped{id})}
pub fn shape_raw(&mut self,_r:&[u8],out:&mut Vec<u8>){ out.extend_from_slice(b"1:office365:{}"); } }
