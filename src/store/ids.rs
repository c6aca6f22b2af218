//! Ids as they stand in columns: texts. What one is, its column says; one that looks like no id of
//! ours (somebody has written it) is that of its row all the same, and stops nobody else.

use sea_orm::sea_query::{ArrayType, ColumnType, Nullable, StringLen, ValueType, ValueTypeErr};
use sea_orm::{ColIdx, DbErr, QueryResult, TryFromU64, TryGetError, TryGetable, Value};

use crate::domain::id::{
    AccountId, AttemptId, EventId, MerchantId, OrderNo, PaymentId, RefundId, RefundNo, ReviewId,
};

macro_rules! columns {
    ($($name:ident)+) => {$(
        impl From<$name> for Value {
            fn from(id: $name) -> Self {
                Self::from(&id)
            }
        }

        impl From<&$name> for Value {
            fn from(id: &$name) -> Self {
                Self::String(Some(id.as_str().to_owned()))
            }
        }

        impl TryGetable for $name {
            fn try_get_by<I: ColIdx>(row: &QueryResult, column: I) -> Result<Self, TryGetError> {
                String::try_get_by(row, column).map(Self::stored)
            }
        }

        impl ValueType for $name {
            fn try_from(value: Value) -> Result<Self, ValueTypeErr> {
                <String as ValueType>::try_from(value).map(Self::stored)
            }

            fn type_name() -> String {
                stringify!($name).to_owned()
            }

            fn array_type() -> ArrayType {
                ArrayType::String
            }

            fn column_type() -> ColumnType {
                ColumnType::String(StringLen::None)
            }
        }

        impl Nullable for $name {
            fn null() -> Value {
                Value::String(None)
            }
        }

        impl TryFromU64 for $name {
            fn try_from_u64(_: u64) -> Result<Self, DbErr> {
                Err(DbErr::ConvertFromU64(stringify!($name)))
            }
        }
    )+};
}

columns! { AccountId AttemptId EventId MerchantId OrderNo PaymentId RefundId RefundNo ReviewId }
