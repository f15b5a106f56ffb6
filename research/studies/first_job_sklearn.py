"""The job of `first_job.py` in scikit-learn, in a folder with reviews.csv and test.csv.

TF-IDF of words and word pairs beside scaled numbers and one-hot categories, a linear model whose
regularization is chosen by cross-validation: what a practitioner would write first.
"""

from __future__ import annotations

import joblib
import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import classification_report, mean_absolute_error, r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

train, test = pd.read_csv("reviews.csv"), pd.read_csv("test.csv")
columns = ColumnTransformer(
    [
        ("text", TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2), "review"),
        ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["age", "helpful"]),
        (
            "categories",
            OneHotEncoder(handle_unknown="ignore"),
            ["division", "department", "class"],
        ),
    ]
)

search = GridSearchCV(
    make_pipeline(columns, LogisticRegression(max_iter=1000)),
    {"logisticregression__C": [1, 3, 10, 30, 100]},
    cv=5,
    n_jobs=-1,
).fit(train, train["recommended"])
model = search.best_estimator_
predicted, probabilities = model.predict(test), model.predict_proba(test)
print(search.best_params_)
print(classification_report(test["recommended"], predicted, digits=4))
wrong = np.flatnonzero(predicted != test["recommended"])
worst = wrong[np.argsort(-probabilities[wrong].max(axis=1))[:5]]
names = model[0].get_feature_names_out()
rows, weights = model[0].transform(test).tocsr(), model[-1].coef_[0]
for row in worst:
    shares = rows[row].multiply(weights).tocoo()
    top = np.argsort(-np.abs(shares.data))[:5]
    reasons = ", ".join(f"{names[shares.col[i]]} {shares.data[i]:+z.2f}" for i in top)
    print(f"row {row + 1}: {probabilities[row].max():.2f} for {predicted[row]}: {reasons}")
pd.DataFrame({"prediction": predicted}).to_csv("sklearn-predictions.csv", index=False)
joblib.dump(model, "sklearn-model.joblib")

search = GridSearchCV(
    make_pipeline(columns, Ridge()), {"ridge__alpha": [0.1, 0.3, 1, 3, 10]}, cv=5, n_jobs=-1
).fit(train, train["rating"])
rating = search.predict(test)
print(search.best_params_)
print(f"rating: R² {r2_score(test['rating'], rating):.4f}", end=", ")
print(f"mean absolute error {mean_absolute_error(test['rating'], rating):.4f}")
