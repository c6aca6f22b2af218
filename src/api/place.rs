//! A path with its methods, and on which address each of them answers. With an address for
//! administration (`server.admin`) what needs the scope `admin` answers there alone: on the public
//! one it is not there at all.

use std::future::ready;

use actix_web::dev::{AppService, HttpServiceFactory};
use actix_web::http::Method;
use actix_web::{FromRequest, Handler, HttpRequest, Responder, Route, web};

use super::error::Problem;

/// Which calls an address answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// All of them: the only address, or the one for administration.
    Whole,
    /// What shops, payers and providers need.
    Public,
}

/// A path. Methods that are named after [`Place::admin`] are for administration.
pub struct Place {
    side: Side,
    path: &'static str,
    is_for_admins: bool,
    routes: Vec<(Method, Route)>,
    /// Methods that answer on the other address.
    elsewhere: Vec<Method>,
}

macro_rules! methods {
    ($($name:ident $method:ident),*) => { $(
        /// What answers this method.
        #[must_use]
        pub fn $name<F, Args>(self, handler: F) -> Self
        where
            F: Handler<Args>,
            Args: FromRequest + 'static,
            F::Output: Responder + 'static,
        {
            self.with(Method::$method, web::$name().to(handler))
        }
    )* };
}

impl Place {
    /// A path on an address.
    #[must_use]
    pub fn new(side: Side, path: &'static str) -> Self {
        Self {
            side,
            path,
            is_for_admins: false,
            routes: Vec::new(),
            elsewhere: Vec::new(),
        }
    }

    /// From here on: calls that need the scope `admin`, and metrics.
    #[must_use]
    pub fn admin(mut self) -> Self {
        self.is_for_admins = true;
        self
    }

    methods! { get GET, post POST, put PUT, patch PATCH, delete DELETE, head HEAD }

    fn with(mut self, method: Method, route: Route) -> Self {
        match (self.side, self.is_for_admins) {
            (Side::Public, true) => self.elsewhere.push(method),
            (Side::Whole, _) | (Side::Public, false) => self.routes.push((method, route)),
        }
        self
    }
}

impl HttpServiceFactory for Place {
    fn register(self, config: &mut AppService) {
        let allow: Vec<&str> = self
            .routes
            .iter()
            .map(|(method, _)| method.as_str())
            .collect();
        let (allow, elsewhere) = (allow.join(", "), self.elsewhere);
        let otherwise = move |request: HttpRequest| {
            let is_here = !allow.is_empty() && !elsewhere.contains(request.method());
            ready(Err::<&str, Problem>(if is_here {
                Problem::wrong_method(allow.clone())
            } else {
                nothing_here()
            }))
        };

        let resource = self
            .routes
            .into_iter()
            .fold(web::resource(self.path), |resource, (_, route)| {
                resource.route(route)
            });

        resource
            .default_service(web::to(otherwise))
            .register(config);
    }
}

/// Whatever has no route.
#[must_use]
pub fn nothing_here() -> Problem {
    Problem::not_found("page")
}
